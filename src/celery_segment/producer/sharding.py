"""Which shard of a source has a message: the next one in turn, or that of its user."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar
from zlib import crc32

import msgspec

from celery_segment.aio.waits import BLOCKING, Waits
from celery_segment.buffer import NO_ATTACHMENTS, AttachmentsByPlace, Buffer, Violations
from celery_segment.errors import BufferFull, BufferUnavailable, SegmentBufferError
from celery_segment.producer.store import Store

__all__ = ["ByUser", "InTurn"]

T = TypeVar("T", bound=Store)

#: Messages that are looked at without a pause: half a millisecond.
PAUSE = 300


class InTurn:
    """The shards of a source in turn. One that is unavailable, or full, is passed over.

    It raises what ``Buffer`` raises, where no shard stores a message, or where it is not known
    whether one has.

    Args:
        shards: The buffers of the shards.
        timeout: Seconds after which no other shard is tried.
    """

    def __init__(self, shards: Sequence[Buffer], timeout: float) -> None:
        self._shards = shards
        self._timeout = timeout
        # Each process begins elsewhere; a count is safe between threads.
        self._turn = itertools.count(random.randrange(len(shards)))  # noqa: S311 - no secret

    def append(self, message: bytes) -> None:
        """Store one message."""
        self._try_each(lambda shard: shard.append(message))

    def append_many(
        self, messages: Sequence[bytes], attachments: AttachmentsByPlace = NO_ATTACHMENTS
    ) -> None:
        """Store messages in their order: all in one shard, as a rule.

        Raises:
            SegmentBufferError: Its ``stored`` says how many of the messages are stored.
        """
        done = 0

        def append(shard: Buffer) -> None:
            nonlocal done
            left = {place - done: each for place, each in attachments.items() if place >= done}
            try:
                shard.append_many(messages[done:], left)
            except SegmentBufferError as error:
                done += error.stored
                error.stored = done
                raise

        self._try_each(append)

    def append_part(
        self, messages: Sequence[bytes], attachments: AttachmentsByPlace = NO_ATTACHMENTS
    ) -> None:
        """Store all messages, or none, in one shard."""
        self._try_each(lambda shard: shard.append_part(messages, attachments))

    def quarantine(self, message: bytes, cause: str, reason: str) -> None:
        """Store a message as a dead letter."""
        self._try_each(lambda shard: shard.quarantine(message, cause, reason))

    def count_dropped(self, reason: str, count: int) -> None:
        """Count messages that calls dropped."""
        self._try_each(lambda shard: shard.count_dropped(reason, count))

    def count_violations(self, found: Sequence[Violations]) -> None:
        """Count messages that violated the tracking plan."""
        self._try_each(lambda shard: shard.count_violations(found))

    def _try_each(self, store: Callable[[Buffer], None]) -> None:
        first, until = next(self._turn), time.monotonic() + self._timeout
        for turn in range(first, first + len(self._shards)):
            is_last = turn == first + len(self._shards) - 1
            if self._try(store, turn, until, is_last=is_last):
                return

    def _try(
        self, store: Callable[[Buffer], None], turn: int, until: float, *, is_last: bool
    ) -> bool:
        """Store in one shard; return False where another one is to be tried."""
        try:
            store(self._shards[turn % len(self._shards)])
        except (BufferUnavailable, BufferFull) as error:
            if is_last or error.unknown or time.monotonic() > until:
                raise
            return False
        return True


class ByUser(Generic[T]):
    """The shards of a source by the user of a message, so that each user's messages are in one.

    Args:
        shards: The store of each shard.
        waits: How callers wait.
    """

    def __init__(self, shards: Sequence[T], waits: Waits = BLOCKING) -> None:
        self._shards = shards
        self._waits = waits

    def append(self, message: bytes) -> None:
        """Store one message."""
        self._shards[self._place(message)].append(message)

    def append_many(
        self, messages: Sequence[bytes], attachments: AttachmentsByPlace = NO_ATTACHMENTS
    ) -> None:
        """Store messages, those of each user in their order.

        Raises:
            SegmentBufferError: Its ``stored`` says how many of the messages are stored, of all
                the shards that could be reached.
        """
        stored, failure = 0, None
        for shard, places in self._grouped(messages):
            own = {n: attachments[place] for n, place in enumerate(places) if place in attachments}
            try:
                shard.append_many([messages[place] for place in places], own)
                stored += len(places)
            except SegmentBufferError as error:
                stored += error.stored
                failure = failure or error
        if failure is not None:
            failure.stored = stored
            raise failure

    def quarantine(self, message: bytes, cause: str, reason: str) -> None:
        """Store a message as a dead letter of the shard that has its user."""
        self._shards[self._place(message)].quarantine(message, cause, reason)

    def count_dropped(self, reason: str, count: int) -> None:
        """Count messages that calls dropped."""
        self._shards[0].count_dropped(reason, count)

    def count_violations(self, found: Sequence[Violations]) -> None:
        """Count messages that violated the tracking plan."""
        self._shards[0].count_violations(found)

    def split(self, messages: Sequence[bytes]) -> Iterator[tuple[T, list[bytes]]]:
        """Return the messages of each shard, in their order."""
        for shard, places in self._grouped(messages):
            yield shard, [messages[place] for place in places]

    def _grouped(self, messages: Sequence[bytes]) -> Iterator[tuple[T, list[int]]]:
        """Return the places of each shard's messages."""
        groups: dict[int, list[int]] = {}
        for place, message in enumerate(messages):
            groups.setdefault(self._place(message), []).append(place)
            if place % PAUSE == PAUSE - 1:
                self._waits.pause()
        for number, places in groups.items():
            yield self._shards[number], places

    def _place(self, message: bytes) -> int:
        ids = _ids_of(message)
        # Python's own hash differs between processes.
        return crc32((ids.user_id or ids.anonymous_id or "").encode()) % len(self._shards)


class _Ids(msgspec.Struct, rename="camel"):
    user_id: str | None = None
    anonymous_id: str | None = None

    def __repr__(self) -> str:
        return "_Ids(…)"  # they are a person's


_ids_of = msgspec.json.Decoder(_Ids).decode
