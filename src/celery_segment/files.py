"""Write files atomically, and keep files to their owner."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["make_private", "written_atomically"]


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


def make_private(name: str, *, create: bool = True) -> None:
    """Create a file if it does not exist, and let its owner alone read and write it.

    An existing file is not opened: to close it would end the locks that this process has on it.

    Args:
        name: The path of the file.
        create: Whether to create the file.

    Raises:
        OSError: It is a symbolic link, not a plain file, or another user's, or has a second name.
    """
    if create:
        with suppress(FileExistsError):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL  # which follows no link
            os.close(os.open(name, flags, 0o600))
    try:
        found = os.lstat(name)
    except FileNotFoundError:
        return
    if stat.S_ISLNK(found.st_mode):
        raise OSError(f"{name} is a symbolic link")
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"{name} is not a plain file")
    if found.st_uid != os.geteuid():
        raise OSError(f"{name} belongs to user {found.st_uid}, not to {os.geteuid()}")
    if found.st_nlink > 1:  # whoever made the other one may have opened it before
        raise OSError(f"{name} has a second name: it is a hard link")
    if stat.S_IMODE(found.st_mode) & 0o177:
        os.chmod(name, 0o600)  # noqa: PTH101 - as lstat


def _sync(directory: Path) -> None:
    """Sync a directory's entries to disk, so that a rename survives a power failure."""
    number = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
