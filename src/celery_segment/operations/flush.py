"""Flush sources: have the workers deliver what is stored, and wait for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from celery_segment.buffer import Gate
from celery_segment.runtime import Runtime

__all__ = ["Flush", "wait_for"]

#: Seconds between two looks at what remains.
POLL = 0.05


class Flush:
    """What is stored in a source now, and how much of it is settled since.

    The workers are asked to deliver it. A source that is not enabled has nothing stored.

    Attributes:
        source: The source's name.
        total: The number of messages to settle.
        remaining: How many were not settled when ``look`` was called last.
    """

    def __init__(self, runtime: Runtime, source: str) -> None:
        self.source = source
        self.total = self.remaining = 0
        if runtime.producer(source).delivers:
            self._admin = runtime.buffer(source).admin
            self._mark = self._admin.mark()
            self.total = self.remaining = self._admin.remaining(self._mark)
        if self.total:
            runtime.wake(source)

    def look(self) -> int:
        """Look again at what remains; return how many messages are settled."""
        if self.total:
            self.remaining = self._admin.remaining(self._mark)
        return max(self.total - self.remaining, 0)

    def gate(self) -> Gate:
        """Return whether the source's batches may be delivered now."""
        return self._admin.snapshot().gate if self.total else Gate()


def wait_for(
    flushes: Collection[Flush],
    timeout: float,
    *,
    poll: float = POLL,
    watch: Callable[[Flush], object] = lambda _: None,
) -> int:
    """Wait until each flush is settled, for ``timeout`` seconds at most.

    Args:
        flushes: The flushes.
        timeout: Seconds to wait.
        poll: Seconds between two looks.
        watch: Called with each flush after each look; what it raises ends the waiting.

    Returns:
        The number of messages that remain; 0 when each was delivered or became a dead letter.
    """
    deadline = time.monotonic() + timeout
    while any(flush.remaining for flush in flushes):
        left = deadline - time.monotonic()
        if left <= 0:
            break
        time.sleep(min(poll, left))
        for flush in flushes:
            flush.look()
            watch(flush)
    return sum(flush.remaining for flush in flushes)
