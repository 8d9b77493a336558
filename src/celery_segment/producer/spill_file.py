"""The spill's file: one connection for all threads of a process, a new one after a fork."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
import weakref
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

from celery_segment.errors import BufferFull, BufferUnavailable
from celery_segment.files import make_private
from celery_segment.producer.note import make_note

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SpillFile"]

_PAGE_SIZE = 4096
#: SQLite moves its log into the file at so many pages, 0.5 MB: what a disk that is full needs
#: as room before anything can be deleted.
_LOG_PAGES = 128
#: Bytes of the disk that are left free: twice that log, so that there is room to delete.
_RESERVE = 2 * _LOG_PAGES * _PAGE_SIZE

_SPILLED = (
    "CREATE TABLE IF NOT EXISTS spilled"
    " (id INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL, message BLOB NOT NULL,"
    " callbacks BLOB NOT NULL, trace BLOB NOT NULL)"
)
#: Tells this file from one that replaces it, and whose ids begin anew.
_MARKS = "CREATE TABLE IF NOT EXISTS token (token TEXT)"
_FIRST_MARK = "INSERT INTO token SELECT hex(randomblob(16)) WHERE NOT EXISTS (SELECT 1 FROM token)"
#: Connections of a parent process, which SQLite forbids a child to use or to close.
_inherited: list[sqlite3.Connection] = []


class SpillFile:
    """An SQLite database that several processes and their threads use.

    Args:
        path: The file; its folder must exist.
        max_bytes: The largest size of the file, in bytes.
        patience: Seconds for which a fork waits for a statement to end.
    """

    def __init__(self, path: str, max_bytes: int, patience: float) -> None:
        self.path = path
        self._max_pages = max(max_bytes // _PAGE_SIZE, 8)
        self._patience = patience
        self._connection: sqlite3.Connection | None
        self._reset()
        _files.add(self)

    @contextmanager
    def errors(self, done: str) -> Iterator[None]:
        """Translate the errors of a block."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if "full" in str(error) and done == "written":
                raise BufferFull(
                    f"Redis is unreachable and {self.path}, or its disk, is full",
                    hint="raise segment_max_spill_bytes, or make room on the disk",
                ) from error
            start = "Redis is unreachable and " if done == "written" else ""
            raise BufferUnavailable(
                f"{start}{self.path} cannot be {done} ({error})", hint="check segment_spill_path"
            ) from error

    def need_room(self, connection: sqlite3.Connection, size: int) -> None:
        """Raise where the disk would have too little room left after so many bytes.

        They are written twice: to the log, and from it to the file, which may have room inside.

        Raises:
            OSError: ``ENOSPC``.
        """
        disk = os.statvfs(self.path)
        room = disk.f_bavail * disk.f_frsize
        inside = connection.execute("PRAGMA freelist_count").fetchone()[0] * _PAGE_SIZE
        if room < size + _RESERVE // 2 or room + inside < 2 * size + _RESERVE:
            raise OSError(errno.ENOSPC, "its disk is nearly full")

    @contextmanager
    def transaction(self, patience: float) -> Iterator[sqlite3.Connection]:
        """Run a block as one transaction: all of it is in the file, or nothing."""
        with self.locked(patience) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # a full file has ended it already
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def locked(self, patience: float) -> Iterator[sqlite3.Connection]:
        """Lock out the other threads of this process, for a statement or a transaction.

        Args:
            patience: Seconds to wait for other threads and processes.

        Raises:
            sqlite3.OperationalError: They took longer.
        """
        if self._pid != os.getpid():  # uWSGI forks in C, and calls no hook
            self._reset()
        lock = self._acquire(patience)
        if lock is None:
            raise sqlite3.OperationalError("locked by another thread")
        try:
            connection = self._connection
            if connection is None:
                connection = self._connection = self._open(patience)
            connection.execute(f"PRAGMA busy_timeout = {int(patience * 1000)}")
            yield connection
        finally:
            lock.release()

    def _acquire(self, patience: float) -> Lock | None:
        """Return the lock, acquired; None if that took too long.

        Whoever waits for it holds the queue's lock: else a thread that puts one message after
        the other would acquire it again and again, and one that forks would never.
        """
        queue, lock = self._queue, self._lock
        until = time.monotonic() + patience
        if not queue.acquire(timeout=patience):
            return None
        try:
            left = max(until - time.monotonic(), 0)
            return lock if lock.acquire(timeout=left) else None
        finally:
            queue.release()

    def _reset(self) -> None:
        """Leave to the parent process its locks and its connection."""
        self._queue, self._lock, self._connection = Lock(), Lock(), None
        self._pid = os.getpid()

    def _open(self, patience: float) -> sqlite3.Connection:
        for suffix in ("", "-wal", "-shm"):
            make_private(self.path + suffix, create=not suffix)
        make_note(f"{self.path}-given")
        connection = sqlite3.connect(
            self.path, timeout=patience, isolation_level=None, check_same_thread=False
        )
        try:
            # A message is accepted once it is here: it outlives a power cut as well.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            # Else a deletion writes all that it deletes anew, for which a full disk has no room.
            connection.execute("PRAGMA secure_delete = FAST")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
            for table in (_SPILLED, _MARKS, _FIRST_MARK):
                connection.execute(table)
            connection.execute(f"PRAGMA max_page_count = {self._max_pages}")
        except BaseException:
            connection.close()
            raise
        weakref.finalize(self, _close, connection, os.getpid())
        return connection


def _close(connection: sqlite3.Connection, pid: int) -> None:
    if pid == os.getpid():
        connection.close()
    else:
        _inherited.append(connection)


_files: weakref.WeakSet[SpillFile] = weakref.WeakSet()
_held: list[Lock] = []


def _before_fork() -> None:
    """Wait until no statement runs: a child would find the file locked for ever."""
    for file in list(_files):
        lock = file._acquire(file._patience)  # noqa: SLF001 - this module's own
        if lock is not None:
            _held.append(lock)


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop().release()


def _after_fork_in_child() -> None:
    _held.clear()
    for file in list(_files):
        file._reset()  # noqa: SLF001 - as above


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
