"""The lines of an input as bytes, each with its number and the offset of its end."""

from __future__ import annotations

from collections.abc import Iterator
from io import BufferedReader
from typing import Any

from celery_segment.errors import ValidationError

__all__ = ["MAX_LINE_BYTES", "Line", "lines_of", "text_of"]

#: The number of the (first) line of a record, the offset of its end, and its bytes.
Line = tuple[int, int, bytes]

#: Longest line accepted. A message of 32,768 bytes fits, even if each is escaped as six.
MAX_LINE_BYTES = 262_144
_BOM = b"\xef\xbb\xbf"


def lines_of(stream: BufferedReader[Any]) -> Iterator[Line]:
    """Iterate over the lines, including their line breaks.

    A line above ``MAX_LINE_BYTES`` is cut to one byte more than that.
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
    """Skip the rest of a line that is too long; return the number of bytes skipped."""
    size = 0
    while len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
        line = stream.readline(MAX_LINE_BYTES + 1)
        size += len(line)
    return size


def text_of(line: bytes) -> str:
    """Return a line as text.

    Raises:
        ValidationError: The line is too long, or not UTF-8.
    """
    if len(line) > MAX_LINE_BYTES:
        raise ValidationError("", f"is longer than {MAX_LINE_BYTES:,} bytes")
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise ValidationError("", f"is not UTF-8 (byte {error.start}: {error.reason})") from None
