"""NDJSON: each line is a JSON object. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from celery_segment import messages
from celery_segment.errors import ValidationError
from celery_segment.importing import fast_path
from celery_segment.importing.ids import NextId
from celery_segment.importing.lines import Line, text_of
from celery_segment.importing.names import message_of

__all__ = ["NDJSON"]


class NDJSON:
    """Reads messages from JSON objects, including those that ``dead export`` writes.

    Args:
        lines: The lines of the file.
        default_type: The type of lines that have none.
    """

    def __init__(self, lines: Iterable[Line], default_type: str | None) -> None:
        self._lines = lines
        self._default_type = default_type
        self.scope = (default_type or "",)

    def __iter__(self) -> Iterator[Line]:
        return iter(self._lines)

    def parse(self, line: bytes, next_id: NextId) -> messages.Message:
        """Return the message of a line; ``next_id`` returns its id if it has none.

        Raises:
            ValidationError: The line is rejected.
        """
        message = fast_path.decode(line, next_id)
        if message is not None:
            return message
        text_of(line)
        try:
            fields = messages.decode(line)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ValidationError("", f"is not a JSON object: {error}") from None
        exported = fields.get("message")
        if isinstance(exported, dict):
            fields = exported
        return message_of(fields, self._default_type, lambda: next_id(line))
