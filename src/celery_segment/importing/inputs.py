"""The input of an import: a file or standard input, compressed or not."""

from __future__ import annotations

import fcntl
import io
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import PurePath
from typing import Any

from celery_segment.compression import deflate, gzip
from celery_segment.errors import ImportRefused, ImportUnfinished
from celery_segment.importing.lines import Line, lines_of

__all__ = ["FORMATS", "STDIN", "Input", "format_of"]

STDIN = "-"
FORMATS = ("ndjson", "csv")
_FORMATS = {".ndjson": "ndjson", ".jsonl": "ndjson", ".json": "ndjson", ".csv": "csv"}
_GZIP = b"\x1f\x8b"
_BUFFER = 1 << 20


def format_of(name: str) -> str:
    """Return the format inferred from a file name.

    Raises:
        ImportRefused: The name has no known suffix.
    """
    path = PurePath(name)
    path = path.with_suffix("") if path.suffix == ".gz" else path
    try:
        return _FORMATS[path.suffix]
    except KeyError:
        raise ImportRefused(
            f"{name}: the format cannot be inferred from the name",
            hint=f"give --format, one of {', '.join(FORMATS)}",
        ) from None


class Input:
    """An open input, decompressed if its first bytes are those of gzip.

    Raises:
        ImportRefused: The input cannot be opened.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        try:
            stdin = name == STDIN
            self._raw = io.FileIO(0 if stdin else name, closefd=not stdin)
            self._stream: io.BufferedReader[Any] = io.BufferedReader(self._raw, _BUFFER)
            if self._stream.peek(2).startswith(_GZIP):
                self._stream = io.BufferedReader(gzip().GzipFile(fileobj=self._stream), _BUFFER)
        except OSError as error:
            raise ImportRefused(f"{name}: {error.strerror or error}") from None
        #: Size in bytes; None if unknown, as for a pipe.
        self.size = self._size()

    def _size(self) -> int | None:
        with suppress(OSError):
            found = os.fstat(self._raw.fileno())
            return found.st_size if stat.S_ISREG(found.st_mode) else None
        return None

    def read(self) -> int:
        """Return the number of bytes read from the file; 0 if its size is unknown."""
        return self._raw.tell() if self.size is not None else 0

    def lock(self) -> None:
        """Lock the input against other imports until it is closed.

        Raises:
            ImportRefused: Another import has locked it.
        """
        try:
            fcntl.flock(self._raw.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ImportRefused(f"{self.name}: another import of this file is running") from None
        except OSError:  # the file system does not support locks
            pass

    def lines(self) -> Iterator[Line]:
        """Iterate over the lines.

        Raises:
            ImportUnfinished: The input cannot be read to its end.
        """
        try:
            yield from lines_of(self._stream)
        except (OSError, EOFError, zlib.error, deflate().error) as error:
            raise ImportUnfinished(f"{self.name} cannot be read to its end ({error})") from error

    def close(self) -> None:
        """Close the input; standard input stays open."""
        self._raw.close()
