"""A host's write-ahead file: stores messages while Redis is unreachable, returns them after.

It is an SQLite database: several processes may use it at once, what it stores outlives
them, and it keeps to its own bound.
"""

from __future__ import annotations

import os
import sqlite3
import weakref
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from threading import RLock
from typing import TYPE_CHECKING

from celery_segment.buffer import Attachments, AttachmentsByPlace
from celery_segment.errors import BufferFull, BufferUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Spill"]

#: Messages given back in one transaction.
PAGE = 500
#: Seconds that a put waits for another process' transaction.
BUSY = 5.0
_PAGE_SIZE = 4096

#: Connections of a parent process, which SQLite forbids a child to use or to close.
_inherited: list[sqlite3.Connection] = []


class Spill:
    """Messages of all sources in one file.

    Args:
        path: The file; its folder must exist. SQLite keeps two more next to it.
        max_bytes: The largest size of the file, in bytes.
    """

    def __init__(self, path: str, max_bytes: int) -> None:
        self.path = path
        self._max_pages = max(max_bytes // _PAGE_SIZE, 8)
        self._lock = RLock()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0

    def __repr__(self) -> str:
        return f"Spill({self.path!r})"

    def put(self, source: str, messages: Sequence[bytes], attachments: AttachmentsByPlace) -> None:
        """Store messages, as ``Buffer.append_many`` does; they are on the disk when this returns.

        Raises:
            BufferFull: The file has reached its bound.
            BufferUnavailable: The file cannot be written.
        """
        try:
            with self._transaction(BUSY) as connection:
                connection.executemany(
                    "INSERT INTO spilled (source, message, callbacks, trace) VALUES (?, ?, ?, ?)",
                    [
                        (source, message, *attachments.get(place, Attachments()))
                        for place, message in enumerate(messages)
                    ],
                )
        except sqlite3.Error as error:
            if "full" in str(error):
                raise BufferFull(
                    f"Redis is unreachable and {self.path} is full",
                    hint="raise segment_max_spill_bytes",
                ) from error
            raise BufferUnavailable(
                f"Redis is unreachable and {self.path} cannot be written ({error})",
                hint="check segment_spill_path",
            ) from error

    def give_back(
        self, source: str, append: Callable[[Sequence[bytes], AttachmentsByPlace], object]
    ) -> int:
        """Pass a source's oldest messages to ``append``, then delete them; return how many.

        One process at a time does this: -1 while another does. When ``append`` raises,
        none is deleted. A crash between the two passes them on again, with the same ids.
        """
        if not os.path.exists(self.path):  # noqa: PTH110 - a stat, at each tick
            return 0
        try:
            with self._transaction(0) as connection:
                rows = connection.execute(
                    "SELECT id, message, callbacks, trace FROM spilled WHERE source = ?"
                    " ORDER BY id LIMIT ?",
                    (source, PAGE),
                ).fetchall()
                if rows:
                    attachments = {
                        n: Attachments(*row[2:]) for n, row in enumerate(rows) if any(row[2:])
                    }
                    append([row[1] for row in rows], attachments)
                    last = rows[-1][0]
                    connection.execute(
                        "DELETE FROM spilled WHERE source = ? AND id <= ?", (source, last)
                    )
        except sqlite3.OperationalError:
            return -1
        return len(rows)

    def waiting(self, source: str) -> int:
        """Return the number of a source's messages in the file."""
        if not os.path.exists(self.path):  # noqa: PTH110 - as above
            return 0
        with self._lock:
            query = "SELECT COUNT(*) FROM spilled WHERE source = ?"
            return int(self._open().execute(query, (source,)).fetchone()[0])

    @contextmanager
    def _transaction(self, busy: float) -> Iterator[sqlite3.Connection]:
        with self._lock:
            connection = self._open()
            connection.execute(f"PRAGMA busy_timeout = {int(busy * 1000)}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                if connection.in_transaction:  # a full file has ended it already
                    connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None and self._pid == os.getpid():
            return self._connection
        connection = sqlite3.connect(
            self.path, timeout=BUSY, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        self._connection, self._pid = connection, os.getpid()
        weakref.finalize(self, _close, connection, self._pid)
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        # A message is accepted once it is here: it outlives a power cut as well.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA max_page_count = {self._max_pages}")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS spilled"
            " (id INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL, message BLOB NOT NULL,"
            " callbacks BLOB NOT NULL, trace BLOB NOT NULL)"
        )
        os.chmod(self.path, 0o600)  # noqa: PTH101 - payloads are the owner's


def _close(connection: sqlite3.Connection, pid: int) -> None:
    if pid == os.getpid():
        connection.close()
    else:
        _inherited.append(connection)
