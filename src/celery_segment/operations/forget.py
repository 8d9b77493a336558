"""Forget a person: delete the messages that have one of the person's ids, wherever they wait.

What is spilled on this host is moved into the buffer first, and the open batch is sealed. Then
each batch is read, and written anew without the person's messages by a script which checks that
the batch is as it was read. So workers and calls may go on, and a run that is killed is repeated.

What is under way is left alone: a worker has read it already, and may have posted it. It is
counted, so that one knows to repeat the command.

Batches move meanwhile: they are claimed, put back, buried, replayed and split. Nothing is missed
by that. At any moment a message is in one batch of ``BufferAdmin.batches``, whose id only ever
grows: by a split. A pass goes up the ids, so it comes to the batch that has the message. Only where
that is split between its turn and its reading, it is gone when it is read. Then there is another
pass, as long as one comes to a batch which none before had read, or found gone. There is an end:
only batches up to a mark are searched, and each can be split less often than it has messages.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields
from math import ceil
from typing import Any

import msgspec

from celery_segment.buffer import UNDER_WAY, Buffer, Damaged, Found, most_messages
from celery_segment.errors import BufferFull, ValidationError
from celery_segment.producer import Spill
from celery_segment.runtime import runtime_of
from celery_segment.text import counted

__all__ = ["Forgotten", "Person", "forget", "summary_of"]

#: The cause that a message's ``link_error`` and its receipt get.
CAUSE = "forgotten: an operator deleted the messages of this person"
#: Seconds to wait for another process that moves what is spilled, and between two looks.
SPILL_WAIT, POLL = 5.0, 0.1


class _Ids(msgspec.Struct, rename="camel"):
    user_id: str | None = None
    anonymous_id: str | None = None
    previous_id: str | None = None

    def __repr__(self) -> str:
        return "_Ids(…)"  # they are a person's


_ids_of = msgspec.json.Decoder(_Ids).decode


@dataclass(frozen=True)
class Person:
    """The ids of one person.

    A message is this person's if its ``userId`` or ``anonymousId`` is one of them, or the
    ``previousId`` of an ``alias``. Ids in properties, traits or the context are not searched; a
    ``groupId`` is not that of a person.

    Attributes:
        user_ids: The ids of the user.
        anonymous_ids: The anonymous ids of the user.

    Raises:
        ValidationError: There is no id, or an id is empty.
    """

    user_ids: frozenset[str] = field(repr=False)
    anonymous_ids: frozenset[str] = field(repr=False)

    def __post_init__(self) -> None:
        if not self.user_ids | self.anonymous_ids:
            raise ValidationError("user_id", "give a user_id or an anonymous_id")
        for name in ("user_ids", "anonymous_ids"):
            if not all(isinstance(each, str) and each for each in getattr(self, name)):
                raise ValidationError(name.removesuffix("s"), "must be a non-empty string")

    def owns(self, message: bytes) -> bool:
        """Return whether a message is this person's."""
        ids = _ids_of(message)
        return (
            ids.user_id in self.user_ids
            or ids.anonymous_id in self.anonymous_ids
            or ids.previous_id in self.user_ids
            or ids.previous_id in self.anonymous_ids
        )


@dataclass
class Forgotten:
    """What was deleted of a person in one source, and what could not be.

    Where a connection to Redis broke between a deletion and its reply, its messages are deleted and
    not counted here, as what an earlier run deleted is not.

    Attributes:
        waiting: Messages deleted that waited in the open batch or in ready ones.
        retrying: Messages deleted that waited for a retry.
        dead: Messages deleted of dead letters.
        spilled: Messages in this host's spill file that are left: with ``dry_run`` those of the
            person, else all those that could not be searched.
        under_way: Messages of the person that are left, since a worker delivers them.
        repeat_in: Seconds after which the leases of these have expired.
        damaged: Batches that could not be searched, since they are damaged.
    """

    waiting: int = 0
    retrying: int = 0
    dead: int = 0
    spilled: int = 0
    under_way: int = 0
    repeat_in: float = 0.0
    damaged: int = 0

    @classmethod
    def sum_of(cls, shards: Sequence[Forgotten]) -> Forgotten:
        """Return the sum of what was deleted in each shard of a source."""
        total = {each.name: sum(getattr(s, each.name) for s in shards) for each in fields(cls)}
        repeat_in = max(shard.repeat_in for shard in shards)
        return cls(**{**total, "repeat_in": repeat_in})

    @property
    def deleted(self) -> int:
        """The number of messages that were deleted; with ``dry_run``, that would be."""
        return self.waiting + self.retrying + self.dead

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left that is the person's, or may be."""
        return not (self.spilled or self.under_way or self.damaged)


def forget(
    app: Any,
    source: str,
    *,
    user_ids: Collection[str] = (),
    anonymous_ids: Collection[str] = (),
    dry_run: bool = False,
) -> Forgotten:
    """Delete the messages of one person that wait in a source, and its dead letters.

    Args:
        app: The Celery application.
        source: The name of the source.
        user_ids: The ids of the user.
        anonymous_ids: The anonymous ids of the user.
        dry_run: Count the messages, and change nothing.

    Raises:
        ValidationError: There is no id, or an id is empty.
        SegmentBufferError: Redis did not answer: what was not searched is by another run.
    """
    person = Person(frozenset(user_ids), frozenset(anonymous_ids))
    runtime = runtime_of(app)
    if runtime.captures:
        return Forgotten()
    search = _Search if dry_run else _Deletion
    shards = runtime.shards(source)
    return Forgotten.sum_of([search(shard, runtime.spill, person).run() for shard in shards])


def summary_of(found: Forgotten, *, dry_run: bool) -> str:
    """Return what was deleted of a person, or would be, and what is left, for people."""
    parts = (
        (found.waiting, "waiting"),
        (found.retrying, "waiting for a retry"),
        (found.dead, "in dead letters"),
    )
    where = ", ".join(f"{count:,} {name}" for count, name in parts if count)
    deleted = ("would delete " if dry_run else "deleted ") + counted(found.deleted, "message")
    return "; ".join([deleted + (f" ({where})" if where else ""), *_left(found, dry_run=dry_run)])


def _left(found: Forgotten, *, dry_run: bool) -> list[str]:
    """Return what is left, and what to do about it."""
    left = []
    if found.spilled and dry_run:
        left.append(f"{found.spilled:,} more in the spill file of this host")
    elif found.spilled:
        spilled = counted(found.spilled, "message")
        left.append(f"{spilled} in the spill file of this host could not be searched: repeat this")
    if found.under_way:
        messages, seconds = counted(found.under_way, "message"), max(ceil(found.repeat_in), 1)
        left.append(f"{messages} under way to Segment: repeat this in {seconds:,} s")
    if found.damaged:
        batches = counted(found.damaged, "batch")
        left.append(f"{batches} could not be searched, since they are damaged in Redis")
    return left


class _Search:
    """Counts a person's messages.

    Args:
        buffer: The buffer of the source.
        spill: The file of this host, which may hold spilled messages.
        person: The person.
    """

    def __init__(self, buffer: Buffer, spill: Spill | None, person: Person) -> None:
        self._buffer, self._spill, self._person = buffer, spill, person
        self._admin = buffer.admin
        self._found = Forgotten()
        #: Batches that need not be read again, those that cannot be, and those that were gone.
        self._searched: set[str] = set()
        self._damaged: set[str] = set()
        self._gone: set[str] = set()
        #: What the present pass has left, since it is under way.
        self._left: list[Found] = []
        #: Batches up to this number were stored before the search began.
        self._last = float("inf")

    def run(self) -> Forgotten:
        """Search everywhere; return what was found."""
        self._prepare()
        while self._search_all():
            pass
        self._found.damaged = len(self._damaged)
        self._found.under_way = sum(each.count for each in self._left)
        self._found.repeat_in = max((each.seconds for each in self._left), default=0.0)
        return self._found

    def _prepare(self) -> None:
        found, name = self._found, self._buffer.source.shard_name
        if self._spill is not None:
            found.spilled = sum(map(self._person.owns, self._spill.messages(name)))
        try:
            found.waiting = self._admin.count_open(self._person.owns)
        except Damaged:
            self._damaged.add("")

    def _act(self, batch: str) -> Found | None:
        """Return what of a batch is the person's."""
        return self._admin.find(batch, self._person.owns)

    def _search_all(self) -> bool:
        """Search all batches once; return whether any was searched, or gone, for the first time."""
        known = len(self._searched) + len(self._gone)
        self._left = []
        for batch in self._admin.batches():
            if batch not in self._searched and self._is_old(batch):
                self._search(batch)
        return len(self._searched) + len(self._gone) > known

    def _search(self, batch: str) -> None:
        try:
            found = self._act(batch)
        except Damaged:
            if self._admin.place(batch)[0] not in UNDER_WAY:  # else its worker settles it
                self._damaged.add(batch)
                self._searched.add(batch)
            return
        if found is None:
            self._gone.add(batch)
        elif found.is_under_way:
            self._left.append(found)
        else:
            self._searched.add(batch)
            self._count(found)

    def _count(self, found: Found) -> None:
        if found.count:
            name = "waiting" if found.place == "ready" else found.place
            setattr(self._found, name, getattr(self._found, name) + found.count)

    def _is_old(self, batch: str) -> bool:
        number = batch.partition(".")[0]
        return number.isdecimal() and int(number) <= self._last


class _Deletion(_Search):
    """Deletes a person's messages."""

    def _prepare(self) -> None:
        self._move_spilled()
        self._last = self._admin.mark()
        self._buffer.reap()  # what workers held that are gone

    def _act(self, batch: str) -> Found | None:
        return self._admin.forget(batch, self._person.owns, CAUSE)

    def _move_spilled(self) -> None:
        """Move what this host has spilled into the buffer; note what cannot be moved."""
        if self._spill is None:
            return
        name, append = self._buffer.source.shard_name, self._buffer.append_part
        most = most_messages(self._buffer.source.max_batch_messages)
        until = time.monotonic() + SPILL_WAIT
        try:
            while left := self._spill.waiting(name):
                if self._spill.give_back(name, append, most) <= 0:
                    if time.monotonic() > until:
                        break
                    time.sleep(POLL)
        except BufferFull:
            left = self._spill.waiting(name)
        self._found.spilled = left
