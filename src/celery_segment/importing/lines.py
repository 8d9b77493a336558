"""An input's lines, as bytes, each with its number and where it ends."""

from __future__ import annotations

from collections.abc import Iterator
from io import BufferedReader
from typing import Any

from celery_segment.errors import ValidationError

__all__ = ["MAX_LINE_BYTES", "Line", "lines_of", "text_of"]

#: The number of the (first) line, the offset behind it, and its bytes.
Line = tuple[int, int, bytes]

#: No longer line holds a message of 32,768 bytes, whatever its escapes (six bytes for one).
MAX_LINE_BYTES = 262_144
_BOM = b"\xef\xbb\xbf"


def lines_of(stream: BufferedReader[Any]) -> Iterator[Line]:
    """Go through the lines, their ends included.

    Of one above ``MAX_LINE_BYTES`` so much is given, and a byte more.
    """
    number = end = 0
    if stream.peek(len(_BOM)).startswith(_BOM):
        end = len(stream.read(len(_BOM)))
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        end += len(line)
        if len(line) > MAX_LINE_BYTES:
            end += _skip(stream, line)
        yield number, end, line


def _skip(stream: BufferedReader[Any], line: bytes) -> int:
    """Read on to the end of a line that is longer than it may be; return by how many bytes."""
    size = 0
    while len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
        line = stream.readline(MAX_LINE_BYTES + 1)
        size += len(line)
    return size


def text_of(line: bytes) -> str:
    """Return a line as text.

    Raises:
        ValidationError: It is too long, or not UTF-8.
    """
    if len(line) > MAX_LINE_BYTES:
        raise ValidationError("", f"is longer than {MAX_LINE_BYTES:,} bytes")
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise ValidationError("", f"is not UTF-8 (byte {error.start}: {error.reason})") from None
