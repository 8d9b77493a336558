"""Dead letters: list, group, show, replay, export and purge them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec

from celery_segment import messages
from celery_segment.buffer import DeadGroup, DeadLetter
from celery_segment.files import written_atomically
from celery_segment.operations.admin import admin_of
from celery_segment.operations.dead_pages import Chosen, DeadLetterPage, When, page_of
from celery_segment.runtime import Runtime

__all__ = ["DeadLetters", "Exported"]

#: Number of dead letters that are replayed or purged in one round trip: each may be in many groups.
SETTLED = 15


class Exported(NamedTuple):
    """The result of an export.

    Attributes:
        messages: The number of messages that were written.
        purged: The number of messages that were then deleted from the buffer.
    """

    messages: int
    purged: int


class DeadLetters:
    """The dead letters of a source: batches that were given up, kept until replayed or purged.

    All methods have the same filters: ``reason`` is a text that the reason contains,
    ignoring case; ``since`` selects what became a dead letter at that time or later, and
    ``until`` before that time. A time is a datetime, local if naive, or seconds since the
    epoch. ``group`` is the id of one of ``groups()``: it selects each letter that holds
    a message of the group, with all its messages.
    """

    def __init__(self, runtime: Runtime, source: str) -> None:
        self._runtime = runtime
        self._source = source
        self._admin = admin_of(runtime, source)

    def __iter__(self) -> Iterator[DeadLetter]:
        """Iterate over the dead letters, oldest first."""
        return self.select()

    def __contains__(self, batch_id: str) -> bool:
        return self._admin.is_dead(batch_id)

    def groups(self) -> list[DeadGroup]:
        """Return the dead letters by reason, type and event, most messages first."""
        return sorted(self._admin.dead_groups(), key=lambda each: (-each.messages, each.id))

    def page(
        self,
        after: str | None = None,
        *,
        limit: int = 50,
        reason: str | None = None,
        since: When | None = None,
        until: When | None = None,
        group: str | None = None,
        newest_first: bool = True,
    ) -> DeadLetterPage:
        """Return some of the selected dead letters, by default the newest.

        The work for a page is bounded. So a page may have fewer letters than ``limit``, or
        none, where few match ``reason`` and others follow.

        Args:
            after: The ``next`` of the page before; None for the first page.
            limit: The greatest number of letters.
            reason: As for ``select``.
            since: As for ``select``.
            until: As for ``select``.
            group: As for ``select``.
            newest_first: Return the newest first, not the oldest.

        Raises:
            ValueError: ``after`` is not the ``next`` of a page, or ``limit`` is below 1.
        """
        chosen = Chosen(reason, since, until, group)
        return page_of(self._admin, chosen, after, limit, newest_first=newest_first)

    def select(
        self,
        *,
        reason: str | None = None,
        since: When | None = None,
        until: When | None = None,
        group: str | None = None,
    ) -> Iterator[DeadLetter]:
        """Iterate over the selected dead letters, oldest first.

        Each one that exists at the start and is not replayed or purged meanwhile is
        yielded exactly once, even if others are added or removed during the iteration.

        Args:
            reason: Only if the reason contains this text, ignoring case.
            since: Only what became a dead letter at this time or later.
            until: Only what became a dead letter before this time.
            group: Only what holds a message of the group with this id.
        """
        last = self._admin.last_buried()
        if last is not None:
            # Batches buried from here on are left out: the caller may replay in its loop, and
            # the same batches could be buried again and again.
            chosen = Chosen(reason, since, until, group).before(last + 0.001)
            yield from chosen.read_all(self._admin)

    def get(self, batch_id: str) -> DeadLetter | None:
        """Return a dead letter; None for an unknown id."""
        return self._admin.dead_letter(batch_id)

    def messages(self, batch_id: str) -> list[dict[str, Any]]:
        """Return the messages of a dead letter as dicts; an empty list for an unknown id."""
        return [messages.decode(data) for data in self.raw(batch_id)]

    def raw(self, batch_id: str) -> list[bytes]:
        """Return the messages of a dead letter as stored JSON; an empty list for an unknown id."""
        return self._admin.messages(batch_id) if batch_id in self else []

    def replay(
        self,
        batch_ids: Sequence[str] | None = None,
        *,
        reason: str | None = None,
        since: When | None = None,
        until: When | None = None,
        group: str | None = None,
    ) -> int:
        """Deliver dead letters again; return the number of messages.

        Without arguments, all of them are replayed. If interrupted, a replay may be
        repeated, since what was replayed is no longer a dead letter.

        Args:
            batch_ids: The ids of the dead letters; unknown ids are ignored.
            reason: As for ``select``.
            since: As for ``select``.
            until: As for ``select``.
            group: As for ``select``.

        Raises:
            ValueError: Both ids and filters are given.
            TypeError: ``batch_ids`` is a str.
        """
        ids = self._ids(batch_ids, Chosen(reason, since, until, group))
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
        group: str | None = None,
    ) -> int:
        """Delete dead letters; return the number of messages.

        Without arguments, all of them are deleted.

        Args:
            batch_ids: The ids of the dead letters; unknown ids are ignored.
            reason: As for ``select``.
            since: As for ``select``.
            until: As for ``select``.
            group: As for ``select``.

        Raises:
            ValueError: Both ids and filters are given.
            TypeError: ``batch_ids`` is a str.
        """
        ids = self._ids(batch_ids, Chosen(reason, since, until, group))
        return _by_pages(self._admin.purge, ids)

    def export(
        self,
        file: str | os.PathLike[str] | BinaryIO,
        *,
        reason: str | None = None,
        since: When | None = None,
        until: When | None = None,
        group: str | None = None,
        overwrite: bool = False,
        purge: bool = False,
    ) -> Exported:
        """Write the selected dead letters as NDJSON, one message per line.

        A line is ``{"batch", "buried", "reason", "message"}``. ``buried`` is the time at
        which the batch became a dead letter, in seconds since the epoch, and ``message``
        has the exact bytes that were sent to Segment.

        Args:
            file: A path or a binary stream. The file at a path appears when it is complete,
                and only its owner may read it.
            reason: As for ``select``.
            since: As for ``select``.
            until: As for ``select``.
            group: As for ``select``.
            overwrite: Replace an existing file.
            purge: Delete the exported dead letters once the file is on disk; needs a path.

        Raises:
            FileExistsError: The file exists; nothing was written.
            OSError: The file could not be written; nothing was deleted.
            ValueError: ``purge`` is given for a stream.
        """
        letters = self.select(reason=reason, since=since, until=until, group=group)
        written: list[str] = []
        if not isinstance(file, str | os.PathLike):
            if purge:
                raise ValueError("purge needs a path: it is not known whether a stream was stored")
            return Exported(self._write(letters, file, written), 0)
        with written_atomically(Path(file), overwrite=overwrite) as stream:
            exported = self._write(letters, stream, written)
        purged = _by_pages(self._admin.purge, written) if purge else 0
        return Exported(exported, purged)

    def lines(self, letters: Iterable[DeadLetter]) -> Iterator[bytes]:
        """Iterate over the lines that ``export`` writes of dead letters."""
        return (line for letter in letters for line in self._lines(letter))

    def _write(self, letters: Iterable[DeadLetter], stream: BinaryIO, written: list[str]) -> int:
        """Write the messages, add the ids to ``written``, and return the number of messages."""
        exported = 0
        for letter in letters:
            lines = self._lines(letter)
            # A caller's stream may have no other method.
            for line in lines:  # noqa: FURB122
                stream.write(line)
            if lines:
                exported += len(lines)
                written.append(letter.id)
        return exported

    def _lines(self, letter: DeadLetter) -> list[bytes]:
        """Return a dead letter's lines; none if it was replayed or purged since it was listed."""
        about = {"batch": letter.id, "buried": letter.buried, "reason": letter.reason}
        head = msgspec.json.encode(about)[:-1]
        # An unescaped line break in JSON is always whitespace between two tokens.
        contents = (c.translate(_SPACES) if b"\n" in c else c for c in self.raw(letter.id))
        return [b'%b,"message":%b}\n' % (head, content) for content in contents]

    def _ids(self, batch_ids: Sequence[str] | None, chosen: Chosen) -> list[str]:
        # Listed in advance, so that what is buried again meanwhile is not selected twice.
        if batch_ids is None:
            return [letter.id for letter in self.select(**chosen._asdict())]
        if chosen != Chosen():
            raise ValueError(
                "give either batch_ids or the filters reason, since, until and group, not both"
            )
        if isinstance(batch_ids, str):
            raise TypeError("batch_ids must be a sequence of ids, not a str")
        return list(batch_ids)


_SPACES = bytes.maketrans(b"\r\n", b"  ")


def _by_pages(settle: Callable[[list[str]], int], batch_ids: Iterable[str]) -> int:
    left = iter(batch_ids)
    return sum(map(settle, iter(lambda: list(islice(left, SETTLED)), [])))
