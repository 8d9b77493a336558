"""Flush sources: have the workers deliver the stored messages, and wait for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from celery_segment.aio.waits import BLOCKING, Waits
from celery_segment.buffer import Gate, Snapshot
from celery_segment.runtime import Runtime

__all__ = ["Flush", "wait_for"]

#: Seconds between two reads of what remains.
POLL = 0.05


class Flush:
    """Flush of a source: asks the workers to deliver what is stored now, and counts the rest.

    A source that is not enabled has nothing to deliver.

    Attributes:
        source: The name of the source.
        total: The number of messages that were stored at the start.
        remaining: How many of them were not settled when ``look`` was called last.
    """

    def __init__(self, runtime: Runtime, source: str, *, wake: bool = True) -> None:
        self.source = source
        self.total = self.remaining = 0
        if runtime.producer(source).delivers:
            admins = [buffer.admin for buffer in runtime.shards(source)]
            self._marks = [(admin, admin.mark()) for admin in admins]
            self.total = self.remaining = self._count()
        if self.total and wake:
            runtime.wake(source)

    def look(self) -> int:
        """Update ``remaining``; return the number of messages that are settled."""
        if self.total:
            self.remaining = self._count()
        return max(self.total - self.remaining, 0)

    def is_settled(self) -> bool:
        """Look again at what remains; return whether that is nothing."""
        self.look()
        return not self.remaining

    def gate(self) -> Gate:
        """Return the gate, which says whether the source's batches may be delivered now."""
        if not self.total:
            return Gate()
        return Snapshot.sum_of([admin.snapshot() for admin, _ in self._marks]).gate

    def _count(self) -> int:
        return sum(admin.remaining(mark) for admin, mark in self._marks)


def wait_for(
    flushes: Collection[Flush],
    timeout: float,
    *,
    poll: float = POLL,
    watch: Callable[[Flush], object] = lambda _: None,
    waits: Waits = BLOCKING,
) -> int:
    """Wait until each flush is settled, for ``timeout`` seconds at most.

    Args:
        flushes: The flushes.
        timeout: Seconds to wait.
        poll: Seconds between two reads.
        watch: Called with each flush after each read; an exception in it ends the wait.
        waits: How the caller waits.

    Returns:
        The number of messages that remain; 0 if all were delivered or became dead letters.
    """
    deadline = time.monotonic() + timeout
    while any(flush.remaining for flush in flushes):
        left = deadline - time.monotonic()
        if left <= 0:
            break
        waits.sleep(min(poll, left))
        for flush in flushes:
            flush.look()
            watch(flush)
    return sum(flush.remaining for flush in flushes)
