"""A host's write-ahead file: stores messages while Redis is unreachable, returns them after.

It is an SQLite database: several processes may use it at once, what it stores outlives
them, and it keeps to its own bound.

Messages are given back in parts, of which each is one append: a part is appended, then
deleted. A process that ends between the two leads to one part being appended twice. What
is given back is noted in a file of its own, which has its whole size from the start: where
the disk is full and nothing can be deleted, no part is appended twice.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from threading import Lock
from typing import TYPE_CHECKING, Any

from celery_segment.buffer import APPEND_BYTES, Attachments, AttachmentsByPlace
from celery_segment.errors import BufferFull, BufferUnavailable
from celery_segment.producer.note import make_note, read_note, write_note
from celery_segment.producer.spill_file import SpillFile

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Spill"]

#: Messages given back at once, in one part or more.
PAGE = 500
_DELETE = (
    "DELETE FROM spilled WHERE id IN"
    " (SELECT id FROM spilled WHERE source = :source AND id <= :last ORDER BY id LIMIT :most)"
)
_OLDEST = (
    "SELECT id, message, callbacks, trace FROM spilled WHERE source = :source AND id > :last"
    " ORDER BY id LIMIT :most"
)
_COUNT = "SELECT COUNT(*) FROM spilled WHERE source = ?"
_COUNT_EACH = "SELECT source, COUNT(*) FROM spilled GROUP BY source"

#: One thread of a process gives a file back, by path and process: a child has its own.
_turns: dict[tuple[str, int], Lock] = {}

Append = Callable[[Sequence[bytes], AttachmentsByPlace], object]


class Spill:
    """Messages of all sources in one file.

    Args:
        path: The file; its folder must exist. Three more files are kept next to it.
        max_bytes: The largest size of the file, in bytes.
        patience: Seconds for which ``put`` waits for others that use the file.
    """

    def __init__(self, path: str, max_bytes: int, patience: float = 1.0) -> None:
        self.path = path
        self._patience = patience
        self._file = SpillFile(path, max_bytes, patience)
        #: Up to which id each source's messages are given back, in the file of that token.
        self._given: dict[str, int] = {}
        self._token = ""

    def __repr__(self) -> str:
        return f"Spill({self.path!r})"

    def exists(self) -> bool:
        """Return whether there is a file."""
        return os.path.exists(self.path)  # noqa: PTH110 - a stat, at each tick

    def put(self, source: str, messages: Sequence[bytes], attachments: AttachmentsByPlace) -> None:
        """Store messages, as ``Buffer.append_many`` does; they are on the disk when this returns.

        Raises:
            BufferFull: The file has reached its bound, or the disk is full.
            BufferUnavailable: The file cannot be written.
        """
        rows = [
            (source, message, *attachments.get(place, Attachments()))
            for place, message in enumerate(messages)
        ]
        size = sum(len(content) for row in rows for content in row[1:])
        with self._file.errors("written"), self._file.transaction(self._patience) as connection:
            self._file.need_room(connection, size)
            connection.executemany(
                "INSERT INTO spilled (source, message, callbacks, trace) VALUES (?, ?, ?, ?)", rows
            )

    def give_back(self, source: str, append: Append, most: int = PAGE) -> int:
        """Pass a source's oldest messages to ``append``, part by part; return how many.

        One process at a time does this: -1 while another does, and where nothing is left but
        what could not be deleted. A part for which ``append`` raises stays. Where it raises
        ``BufferFull``, a smaller part is tried.

        Args:
            source: The name of the source.
            append: Stores all messages of a part, or none.
            most: The greatest number of messages in a part.

        Raises:
            SegmentBufferError: ``append`` raised it, or the file cannot be read or written.
        """
        if not self.exists():
            return 0
        turn = _turns.setdefault((self.path, os.getpid()), Lock())
        if not turn.acquire(blocking=False):
            return -1
        try:
            with self._file.errors("used"), self._only_process() as note:
                return -1 if note is None else self._give_back_parts(note, source, append, most)
        except BufferUnavailable as error:
            if _is_locked(error.__cause__):  # others write to the file just now
                return -1
            raise
        finally:
            turn.release()

    def messages(self, source: str) -> Iterator[bytes]:
        """Iterate over a source's messages in the file, the oldest first."""
        last = 0
        while self.exists():
            about = {"source": source, "last": last, "most": PAGE}
            with self._file.errors("used"), self._file.locked(self._patience) as connection:
                rows = connection.execute(_OLDEST, about).fetchall()
            if not rows:
                return
            yield from (row[1] for row in rows)
            last = rows[-1][0]

    def waiting(self, source: str) -> int:
        """Return the number of a source's messages in the file."""
        if not self.exists():
            return 0
        with self._file.errors("used"), self._file.locked(self._patience) as connection:
            row = connection.execute(_COUNT, (source,)).fetchone()
            return int(row[0])

    def sources(self) -> dict[str, int]:
        """Return the number of messages in the file, by source."""
        if not self.exists():
            return {}
        with self._file.errors("used"), self._file.locked(self._patience) as connection:
            return dict(connection.execute(_COUNT_EACH).fetchall())

    def _give_back_parts(self, note: int, source: str, append: Append, most: int) -> int:
        count = 0
        self._load_given(note)
        self._delete_given(source, 0)
        while count < PAGE:
            rows = self._oldest(source, most)
            if not rows:
                break
            # What cannot be noted now could not be noted later.
            write_note(note, self._token, self._given)
            attachments = {n: Attachments(*row[2:]) for n, row in enumerate(rows) if any(row[2:])}
            try:
                append([row[1] for row in rows], attachments)
            except BufferFull:
                most = len(rows) // 2
                if most:
                    continue
                if count:
                    break
                raise
            count += len(rows)
            self._given[source] = rows[-1][0]
            write_note(note, self._token, self._given)
            self._delete_given(source, self._patience)
        return -1 if not count and source in self._given else count

    def _oldest(self, source: str, most: int) -> list[Any]:
        """Return the rows of the next part."""
        rows: list[Any] = []
        size = 0
        with self._file.locked(0) as connection:
            cursor = connection.execute(_OLDEST, self._of(source, most))
            for row in cursor:
                size += len(row[1]) + 1
                if rows and size > APPEND_BYTES:
                    break
                rows.append(row)
            cursor.close()
        return rows

    def _of(self, source: str, most: int = 0) -> dict[str, str | int]:
        """Return a statement's parameters."""
        return {"source": source, "last": self._given.get(source, 0), "most": most}

    def _load_given(self, note: int) -> None:
        """Read from the note what is given back, and add what could not be noted."""
        with self._file.locked(0) as connection:
            token = str(connection.execute("SELECT token FROM token").fetchone()[0])
        if token != self._token:
            self._token, self._given = token, {}
        for source, last in read_note(note, token).items():
            self._given[source] = max(last, self._given.get(source, 0))

    def _delete_given(self, source: str, patience: float) -> None:
        """Delete what is given back: later, where the file is locked or the disk is full."""
        with suppress(sqlite3.OperationalError):
            deleted = PAGE
            while deleted == PAGE:
                with self._file.transaction(patience) as connection:
                    deleted = connection.execute(_DELETE, self._of(source, PAGE)).rowcount
            self._given.pop(source, None)

    @contextmanager
    def _only_process(self) -> Iterator[int | None]:
        """Lock out other processes that would give back; yield the note's descriptor, or None."""
        name = f"{self.path}-given"
        make_note(name)
        # The lock is that of this process: a child does not inherit it.
        with open(name, "r+b", buffering=0) as stream:  # noqa: PTH123 - at each tick
            try:
                fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                yield None
            else:
                yield stream.fileno()


def _is_locked(error: BaseException | None) -> bool:
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)
