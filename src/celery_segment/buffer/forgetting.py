"""Read a sealed batch, and write it anew without some of its messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from celery_segment.buffer import bounds
from celery_segment.buffer.body import compressed, is_compressed, is_intact, messages_of
from celery_segment.buffer.keys import batch_key, prefix_of
from celery_segment.buffer.pool import Pool
from celery_segment.buffer.types import Damaged
from celery_segment.config import Source

__all__ = ["Place", "StoredBatch", "Wanted", "read_batch"]

#: How often a batch is read where its record does not fit: it may be written anew in between.
_READS = 3
#: Whether a message is one of those that are searched for.
Wanted = Callable[[bytes], bool]


class Place(NamedTuple):
    """Where a batch is.

    Attributes:
        name: "ready", "retrying", "inflight", "delivered" or "moving", as places.lua says.
        id: The batch's id.
        seconds: Seconds until its lease ends, of one in flight.
    """

    name: str
    id: str
    seconds: float


@dataclass(frozen=True)
class StoredBatch:
    """A sealed batch as it was read.

    Attributes:
        stored: What is stored of it, compressed or not.
        size: The size of its messages as JSON, by its record; 0 where that was not read.
        messages: The messages.
    """

    stored: bytes = field(repr=False)
    size: int
    messages: list[msgspec.Raw] = field(repr=False)

    @classmethod
    def of(cls, stored: bytes, size: int = 0) -> StoredBatch:
        """Return what is stored of a batch, or nothing, as its messages.

        Raises:
            Damaged: It cannot be read.
        """
        try:
            return cls(stored, size, messages_of(stored) if stored else [])
        except Exception:  # noqa: BLE001 - of msgspec, or of the decompression
            raise Damaged from None

    def places(self, wanted: Wanted) -> list[int]:
        """Return the places of the wanted messages, from 1 on.

        Raises:
            Damaged: A message cannot be read.
        """
        try:
            return [n for n, each in enumerate(self.messages, 1) if wanted(bytes(each))]
        except (msgspec.MsgspecError, ValueError):  # it is not the JSON of a message
            raise Damaged from None

    def without(self, places: Sequence[int]) -> tuple[bytes, int]:
        """Return what to store when some messages are deleted, and its size as JSON."""
        deleted = {*places}
        left = [each for place, each in enumerate(self.messages, 1) if place not in deleted]
        content = b"".join(b"%b," % each for each in left)
        if left and is_compressed(self.stored):
            return compressed(content), len(content)
        return content, len(content)


def read_batch(pool: Pool, source: Source, batch_id: str) -> StoredBatch:
    """Read a sealed batch: one without messages where nothing is stored of it.

    Raises:
        Damaged: What is stored of it cannot be read, or is not what its record says.
    """
    record = f"{prefix_of(source)}:meta:{batch_id}"
    for _ in range(_READS):
        count, size = (int(n or 0) for n in pool.execute("HMGET", record, "count", "bytes"))
        content = pool.execute("GETRANGE", batch_key(source, batch_id), 0, bounds.CONTENT_BYTES)
        batch = StoredBatch.of(bytes(content), size)
        if not content or (len(batch.messages) == count and is_intact(batch.stored, size)):
            return batch
    raise Damaged
