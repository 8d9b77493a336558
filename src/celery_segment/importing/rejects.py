"""The file of the records that an import rejected, kept so that they can be fixed."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from celery_segment.importing.reading import Rejected

__all__ = ["Rejects"]


class Rejects:
    """A file with one ``{"file", "line", "field", "reason", "content"}`` per line.

    It is created when there is something to write, and only its owner may read it.
    ``content`` is the record; if that is not UTF-8, it is ``content_base64`` instead.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def size(self) -> int:
        """Return the size of the file in bytes; 0 if it does not exist."""
        return self.path.stat().st_size if self.path.exists() else 0

    def write(self, at: int, file: str, rejected: Sequence[Rejected]) -> int:
        """Append rejected records, in place of anything after the first ``at`` bytes.

        Args:
            at: The size of the file at the last checkpoint.
            file: The name of the input.
            rejected: The records.

        Returns:
            The new size of the file, which is then on disk.
        """
        size = self.size()
        if not rejected and size <= at:
            return at
        lines = [
            msgspec.json.encode(
                {"file": file, "line": r.line, "field": r.field or None, "reason": r.reason}
                | ({} if r.rule is None else {"rule": r.rule})
                | _content(r.content)
            )
            + b"\n"
            for r in rejected
        ]
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        with open(os.open(self.path, flags, 0o600), "ab") as stream:  # noqa: PTH123 - a descriptor
            stream.truncate(min(at, size))  # the file is new if it was moved away
            stream.writelines(lines)
            stream.flush()
            os.fsync(stream.fileno())
            return stream.tell()


def _content(record: bytes) -> dict[str, str]:
    try:
        return {"content": record.decode()}
    except UnicodeDecodeError:
        return {"content_base64": base64.b64encode(record).decode()}
