"""Note, beside a spill file, which of its messages are stored in Redis already.

The note has its whole size from the start and is overwritten in place, which a full disk
permits: a deletion from the spill file may need room that there is not.
"""

from __future__ import annotations

import json
import os

from celery_segment.files import make_private

__all__ = ["make_note", "read_note", "write_note"]

_SIZE = 16_384


def make_note(name: str) -> None:
    """Create the note at its whole size, while the disk has room for it."""
    make_private(name)
    if os.stat(name).st_size < _SIZE:  # noqa: PTH116 - at each tick
        with open(name, "ab") as stream:  # noqa: PTH123 - as above
            stream.write(b" " * _SIZE)


def read_note(note: int, token: str) -> dict[str, int]:
    """Return up to which id each source's messages are stored; of the file with that token."""
    try:
        found = json.loads(os.pread(note, _SIZE, 0))
    except ValueError:  # it is new, or a power cut came between
        return {}
    given: dict[str, int] = found["given"] if found["token"] == token else {}
    return given


def write_note(note: int, token: str, given: dict[str, int]) -> None:
    """Overwrite the note; it is on the disk when this returns."""
    text = json.dumps({"token": token, "given": given}).encode()
    os.pwrite(note, text.ljust(_SIZE), 0)
    os.fsync(note)
