"""The operator's transitions of a source's buffer: figures, pauses, flushes, dead letters."""

from __future__ import annotations

from collections.abc import Iterable

from celery_segment.buffer import bounds
from celery_segment.buffer.body import messages_of
from celery_segment.buffer.keys import batch_key, prefix_of
from celery_segment.buffer.pool import Pool
from celery_segment.buffer.scripts import milliseconds, script
from celery_segment.buffer.types import DeadLetter, Snapshot
from celery_segment.config import Source

__all__ = ["BufferAdmin"]


class BufferAdmin:
    """The operator's part of the buffer of one source. It raises what ``Buffer`` raises."""

    def __init__(self, pool: Pool, source: Source) -> None:
        self.source = source
        self._pool = pool
        self._key = prefix_of(source)

    def mark(self) -> int:
        """Seal the open batch and return a mark above all that is stored now."""
        return int(self._pool.run(script("mark"), self._key))

    def remaining(self, mark: int) -> int:
        """Return the number of messages up to a mark that are not settled yet.

        While more than a thousand batches wait, later messages are counted too.
        """
        return int(self._pool.run(script("remaining"), self._key, mark, bounds.LOOK_AT_BATCHES))

    def pause(self) -> bool:
        """Close the source until it is resumed; return False where it was paused already."""
        return bool(self._pool.run(script("pause"), self._key))

    def resume(self) -> float:
        """Open the source; return the seconds for which a Retry-After still keeps it closed."""
        wait = self._pool.run(script("resume"), self._key, bounds.LOOK_AT_BATCHES)
        return max(int(wait), 0) / 1000

    def dead_letters(
        self,
        after: DeadLetter | None = None,
        *,
        since: float | None = None,
        until: float | None = None,
        limit: int = 100,
    ) -> list[DeadLetter]:
        """Return a page of the dead letters, the oldest first.

        Args:
            after: The last letter of the page before.
            since: Only those buried then or later, in seconds since the epoch.
            until: Only those buried before.
            limit: The greatest number of letters.
        """
        first = since if after is None else after.buried
        arguments = (
            "-inf" if first is None else milliseconds(first),
            "+inf" if until is None else f"({milliseconds(until)}",
            "" if after is None else after.id,
            limit,
        )
        flat = self._pool.run(script("dead"), self._key, *arguments)
        return [
            DeadLetter(i.decode(), n, size, at / 1000, why.decode())
            for i, n, size, at, why in zip(*[iter(flat)] * 5, strict=True)
        ]

    def last_buried(self) -> float | None:
        """Return when the youngest dead letter was buried; None when there is none."""
        youngest = self._pool.execute("ZRANGE", f"{self._key}:dead", -1, -1, "WITHSCORES")
        return float(youngest[1]) / 1000 if youngest else None

    def is_dead(self, batch_id: str) -> bool:
        """Return whether a batch is a dead letter."""
        return self._pool.execute("ZSCORE", f"{self._key}:dead", batch_id) is not None

    def messages(self, batch_id: str) -> list[bytes]:
        """Return a sealed batch's messages as JSON; none when there is no such batch."""
        content = self._pool.execute("GET", batch_key(self.source, batch_id))
        return [bytes(part) for part in messages_of(content)] if content else []

    def replay(self, batch_ids: Iterable[str]) -> int:
        """Put dead letters back among the ready batches; return the number of messages."""
        return int(self._pool.run(script("replay"), self._key, *batch_ids))

    def purge(self, batch_ids: Iterable[str]) -> int:
        """Delete dead letters; return the number of messages."""
        return int(self._pool.run(script("purge"), self._key, *batch_ids))

    def claim_ownership(self, application: str) -> str:
        """Name the source's owner, where it has none; return the owner's name."""
        state = f"{self._key}:state"
        self._pool.execute("HSETNX", state, "owner", application)
        return str(self._pool.execute("HGET", state, "owner").decode("utf-8", "replace"))

    def snapshot(self) -> Snapshot:
        """Return the source's figures at this moment."""
        limits = (bounds.LOOK_AT_BATCHES, self.source.max_inflight)
        flat = self._pool.run(script("snapshot"), self._key, *limits)
        return Snapshot.of({flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)})
