"""The messages that were given up: looked at, delivered again, written to a file, deleted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec

from celery_segment import messages
from celery_segment.buffer import DeadLetter
from celery_segment.files import written_atomically
from celery_segment.runtime import Runtime

__all__ = ["DeadLetters", "Exported"]

#: Dead letters that one round trip lists or settles.
PAGE = 100

When = datetime | float


class Exported(NamedTuple):
    """What an export wrote, and then deleted, in messages."""

    messages: int
    purged: int


class DeadLetters:
    """A source's messages that were given up, kept until replayed or purged.

    ``reason``, ``since`` and ``until`` choose among them everywhere alike: a text
    that the reason holds, in whatever case; buried at a time or later; buried before
    a time. A time is a datetime, local where it is naive, or seconds since the epoch.
    """

    def __init__(self, runtime: Runtime, source: str) -> None:
        self._runtime = runtime
        self._source = source
        self._admin = runtime.buffer(source).admin

    def __iter__(self) -> Iterator[DeadLetter]:
        """Go through the dead letters, the oldest first."""
        return self.select()

    def __contains__(self, batch_id: str) -> bool:
        return self._admin.is_dead(batch_id)

    def select(
        self, *, reason: str | None = None, since: When | None = None, until: When | None = None
    ) -> Iterator[DeadLetter]:
        """Go through the dead letters that are chosen, the oldest first.

        Each that is there at the beginning, and stays, is given once, whatever is
        buried, replayed or purged meanwhile.
        """
        last = self._admin.last_buried()
        if last is None:
            return
        # What dies from here on is not waited for: replayed in this very loop, it
        # may die again and again.
        end = last + 0.001 if until is None else min(_seconds(until), last + 0.001)
        start = None if since is None else _seconds(since)
        wanted = (reason or "").casefold()
        letter: DeadLetter | None = None
        while page := self._admin.dead_letters(letter, since=start, until=end, limit=PAGE):
            for letter in page:
                if wanted in letter.reason.casefold():
                    yield letter

    def messages(self, batch_id: str) -> list[dict[str, Any]]:
        """Return the messages of a dead letter; none when there is no such."""
        return [messages.decode(data) for data in self.raw(batch_id)]

    def raw(self, batch_id: str) -> list[bytes]:
        """Return the messages of a dead letter, each as the JSON that it is."""
        return self._admin.messages(batch_id) if batch_id in self else []

    def replay(
        self,
        batch_ids: Sequence[str] | None = None,
        *,
        reason: str | None = None,
        since: When | None = None,
        until: When | None = None,
    ) -> int:
        """Deliver dead letters again; return the number of messages.

        Those that are named, or those that are chosen; all without an argument. Cut off, it may
        be repeated: what was replayed is no dead letter any more.
        """
        ids = self._ids(batch_ids, reason, since, until)
        replayed = _by_pages(self._admin.replay, ids)
        if replayed:
            self._runtime.wake(self._source)
        return replayed

    def purge(
        self,
        batch_ids: Sequence[str] | None = None,
        *,
        reason: str | None = None,
        since: When | None = None,
        until: When | None = None,
    ) -> int:
        """Delete dead letters; return the number of messages.

        Those that are named, or those that are chosen; all without an argument.
        """
        return _by_pages(self._admin.purge, self._ids(batch_ids, reason, since, until))

    def export(
        self,
        file: str | os.PathLike[str] | BinaryIO,
        *,
        reason: str | None = None,
        since: When | None = None,
        until: When | None = None,
        overwrite: bool = False,
        purge: bool = False,
    ) -> Exported:
        """Write the dead letters that are chosen, one message to a line, as NDJSON.

        A line is ``{"batch", "buried", "reason", "message"}``; the message has the
        bytes that Segment was sent, its digits among them.

        Args:
            file: A path, where the whole file appears at once and readable by its
                owner alone, or a binary stream.
            reason: As for ``select``.
            since: As for ``select``.
            until: As for ``select``.
            overwrite: Replace a file that is there.
            purge: Delete what was written, once the disk has it; needs a path.

        Raises:
            FileExistsError: There is such a file, and nothing was written.
            OSError: The file was not written; nothing was deleted.
        """
        letters = self.select(reason=reason, since=since, until=until)
        written: list[str] = []
        if not isinstance(file, str | os.PathLike):
            if purge:
                raise ValueError("purge needs a path: what becomes of a stream is not known")
            return Exported(self._write(letters, file, written), 0)
        with written_atomically(Path(file), overwrite=overwrite) as stream:
            exported = self._write(letters, stream, written)
        purged = _by_pages(self._admin.purge, written) if purge else 0
        return Exported(exported, purged)

    def _write(self, letters: Iterable[DeadLetter], stream: BinaryIO, written: list[str]) -> int:
        """Write letters' messages; note the letters and return the number of messages."""
        exported = 0
        for letter in letters:
            about = {"batch": letter.id, "buried": letter.buried, "reason": letter.reason}
            head = msgspec.json.encode(about)[:-1]
            # Settled since it was listed, a letter has none.
            contents = self.raw(letter.id)
            for content in contents:
                # In JSON a line break is space between two tokens, and nothing else.
                line = content.translate(_SPACES) if b"\n" in content else content
                stream.write(b'%b,"message":%b}\n' % (head, line))
            if contents:
                exported += len(contents)
                written.append(letter.id)
        return exported

    def _ids(
        self,
        batch_ids: Sequence[str] | None,
        reason: str | None,
        since: When | None,
        until: When | None,
    ) -> list[str]:
        # Taken before any is settled: what dies again meanwhile is not taken twice.
        if batch_ids is None:
            return [letter.id for letter in self.select(reason=reason, since=since, until=until)]
        if (reason, since, until) != (None, None, None):
            raise ValueError("name dead letters, or choose them by reason and time, not both")
        if isinstance(batch_ids, str):
            raise TypeError("batch_ids is a sequence of ids")
        return list(batch_ids)


_SPACES = bytes.maketrans(b"\r\n", b"  ")


def _seconds(when: When) -> float:
    return when.timestamp() if isinstance(when, datetime) else when


def _by_pages(settle: Callable[[list[str]], int], batch_ids: Iterable[str]) -> int:
    left = iter(batch_ids)
    return sum(map(settle, iter(lambda: list(islice(left, PAGE)), [])))
