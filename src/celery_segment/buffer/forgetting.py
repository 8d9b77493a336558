"""Read a sealed batch, and write it anew without some of its messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from celery_segment.buffer import bounds
from celery_segment.buffer.body import compressed, is_compressed, is_intact, messages_of
from celery_segment.buffer.keys import batch_key, prefix_of
from celery_segment.buffer.kinds import Kind, kind_of
from celery_segment.buffer.topology.types import Server
from celery_segment.buffer.types import Damaged
from celery_segment.config import Source

__all__ = [
    "UNDER_WAY",
    "Found",
    "StoredBatch",
    "Wanted",
    "places_of",
    "read_batch",
    "read_messages",
]

#: The places in which a batch is left alone.
UNDER_WAY = frozenset({"inflight", "delivered", "moving"})
#: Whether a message is one of those that are searched for.
Wanted = Callable[[bytes], bool]


@dataclass(frozen=True)
class Found:
    """The messages of one batch that were searched for.

    Attributes:
        count: Their number.
        place: Where the batch is: "ready", "retrying", "dead", "inflight", "delivered" or "moving",
            as place.lua says; "" where it is settled, or none was found.
        seconds: Seconds until its lease ends, while a worker holds it.
    """

    count: int
    place: str = ""
    seconds: float = 0.0

    @property
    def is_under_way(self) -> bool:
        """Whether the batch is left alone, since its messages may be at Segment already."""
        return self.place in UNDER_WAY


@dataclass(frozen=True)
class StoredBatch:
    """A sealed batch as it was read.

    Attributes:
        stored: What is stored of it, compressed or not; empty where nothing is.
        messages: The messages.
        count: Their number by its record; 0 where that is gone.
        size: Their size as JSON by its record, likewise.
    """

    stored: bytes = field(repr=False)
    messages: list[msgspec.Raw] = field(repr=False)
    count: int
    size: int

    @property
    def is_whole(self) -> bool:
        """Whether it is what its record says."""
        return len(self.messages) == self.count and is_intact(self.stored, self.size)

    def kinds_at(self, places: Sequence[int]) -> Counter[Kind]:
        """Return how many messages of each kind are at these places."""
        return Counter(kind_of(self.messages[place - 1]) for place in places)

    def without(self, places: Sequence[int]) -> tuple[bytes, int]:
        """Return what to store when some messages are deleted, and its size as JSON."""
        deleted = {*places}
        left = [each for place, each in enumerate(self.messages, 1) if place not in deleted]
        content = b"".join(b"%b," % each for each in left)
        if left and is_compressed(self.stored):
            return compressed(content), len(content)
        return content, len(content)


def places_of(messages: Sequence[msgspec.Raw], wanted: Wanted) -> list[int]:
    """Return the places of the wanted messages, from 1 on.

    Raises:
        Damaged: A message cannot be read.
    """
    try:
        return [place for place, each in enumerate(messages, 1) if wanted(bytes(each))]
    except (msgspec.MsgspecError, ValueError):  # it is not the JSON of a message
        raise Damaged from None


def read_batch(server: Server, source: Source, batch_id: str) -> StoredBatch:
    """Read a sealed batch, which others may change between its record and its messages.

    Raises:
        Damaged: What is stored of it cannot be read.
    """
    record = f"{prefix_of(source)}:meta:{batch_id}"
    known = (int(n or 0) for n in server.execute("HMGET", record, "count", "bytes"))
    content = read_messages(server, batch_key(source, batch_id))
    return StoredBatch(*content, *known)


def read_messages(server: Server, key: str) -> tuple[bytes, list[msgspec.Raw]]:
    """Return what is stored under a key, and the messages in it.

    Raises:
        Damaged: It cannot be read.
    """
    stored = bytes(server.execute("GETRANGE", key, 0, bounds.CONTENT_BYTES))
    try:
        return stored, messages_of(stored) if stored else []
    except Exception:  # noqa: BLE001 - of msgspec, or of the decompression
        raise Damaged from None
