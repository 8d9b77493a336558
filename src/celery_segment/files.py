"""Write files atomically."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["written_atomically"]


@contextmanager
def written_atomically(path: Path, *, overwrite: bool) -> Iterator[BinaryIO]:
    """Open a temporary file for writing, and rename it to ``path`` once it is synced to disk.

    Only its owner may read the file. If the block raises, ``path`` is unchanged.

    Args:
        path: The path of the file.
        overwrite: Whether to replace an existing file.

    Raises:
        FileExistsError: ``path`` exists and ``overwrite`` is False, or it is not a plain file.
        OSError: The file cannot be written.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise FileExistsError(f"{path} exists, and is not a plain file")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already")
    number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(number, "wb") as stream:  # noqa: PTH123 - a descriptor, not a path
            yield stream
            stream.flush()
            os.fsync(number)
        if not overwrite:
            path.touch(exist_ok=False)  # fails if the file has been created in the meantime
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
    _sync(path.parent)


def _sync(directory: Path) -> None:
    """Sync a directory's entries to disk, so that a rename survives a power failure."""
    number = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
