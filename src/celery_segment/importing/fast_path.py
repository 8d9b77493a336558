"""Fast path: decode a line in Segment's wire format directly into its message. No I/O."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import reduce
from typing import Annotated, Any, cast

import msgspec

from celery_segment import messages
from celery_segment.importing.ids import NextId
from celery_segment.messages.fields import MAX_MESSAGE_ID

__all__ = ["decode"]

_TEXT = Annotated[str, msgspec.Meta(min_length=1)]
_OBJECT = dict[str, Any]
#: The type of a field; every other field is a string.
_TYPES: dict[str, Any] = {
    "message_id": Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_MESSAGE_ID)],
    **dict.fromkeys(("properties", "traits", "context", "integrations"), _OBJECT),
}


def _strict(name: str, kind: type[messages.Message]) -> type[messages.Message]:
    """Return a struct that does not decode what ``from_wire`` would reject or change."""
    fields: list[Any] = []
    for field in kind.__struct_fields__:
        own = _TYPES.get(field, _TEXT)
        required = field == "timestamp" or field in kind.required
        fields.append((field, own) if required else (field, own | None, None))
    return cast(
        "type[messages.Message]",
        msgspec.defstruct(
            kind.__name__, fields, bases=(kind,), tag=name, kw_only=True, forbid_unknown_fields=True
        ),
    )


_KINDS = [_strict(name, kind) for name, kind in messages.TYPES.items()]
_decode: Callable[[bytes], messages.Message] = msgspec.json.Decoder(
    reduce(operator.or_, _KINDS), float_hook=messages.parse_number
).decode


def decode(line: bytes, next_id: NextId) -> messages.Message | None:
    """Return the message of a line; None if it has to be read with ``message_of``.

    The message is the same that ``message_of`` returns for the fields. ``next_id`` returns
    the id of a line that has none.

    Raises:
        ValidationError: The timestamp is invalid.
    """
    try:
        message = messages.complete(_decode(line))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if message is not None and message.message_id is None:
        message.message_id = next_id(line)
    return message
