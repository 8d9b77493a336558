"""The records that an import refused, kept for whoever mends them."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from celery_segment.importing.reading import Rejected

__all__ = ["Rejects"]


class Rejects:
    """A file of ``{"file", "line", "field", "reason", "content"}``, one to a line.

    It is made when there is something to write, and readable by its owner alone.
    ``content`` is the record; where that is not UTF-8 it is ``content_base64``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def size(self) -> int:
        """Return its size; 0 when there is none."""
        return self.path.stat().st_size if self.path.exists() else 0

    def write(self, at: int, file: str, rejected: Sequence[Rejected]) -> int:
        """Write records of an input behind a size, in place of what is there, if anything.

        The disk has them when this returns the new size.
        """
        size = self.size()
        if not rejected and size <= at:
            return at
        lines = [
            msgspec.json.encode(
                {"file": file, "line": r.line, "field": r.field or None, "reason": r.reason}
                | _content(r.content)
            )
            + b"\n"
            for r in rejected
        ]
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        with open(os.open(self.path, flags, 0o600), "ab") as stream:  # noqa: PTH123 - a descriptor
            stream.truncate(min(at, size))  # moved away, it begins anew
            stream.writelines(lines)
            stream.flush()
            os.fsync(stream.fileno())
            return stream.tell()


def _content(record: bytes) -> dict[str, str]:
    try:
        return {"content": record.decode()}
    except UnicodeDecodeError:
        return {"content_base64": base64.b64encode(record).decode()}
