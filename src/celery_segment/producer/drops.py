"""What this process' calls have dropped, until Redis has counted it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from threading import Lock

from celery_segment.errors import SegmentBufferError

__all__ = ["Drops"]


class Drops:
    """Drops of this process that are not counted in Redis yet, by reason."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._pid = os.getpid()
        self._counts: Counter[str] = Counter()

    def __bool__(self) -> bool:
        return bool(self._counts) and self._pid == os.getpid()

    def add(self, reason: str, count: int) -> None:
        """Add to the count of a reason."""
        if self._pid != os.getpid():
            # Those counted before a fork are the parent's, and so is the lock.
            self.__init__()  # type: ignore[misc]
        with self._lock:
            self._counts[reason] += count

    def take(self) -> Counter[str]:
        """Return the counts and forget them: the caller alone now counts them in Redis."""
        if self._pid != os.getpid():
            self.__init__()  # type: ignore[misc]
        with self._lock:
            counts, self._counts = self._counts, Counter()
        return counts

    def report(self, count: Callable[[str, int], None]) -> None:
        """Count the drops in Redis; those that it does not take stay for the next time.

        Where Redis does not say whether it took them, they do not: a server that was silent
        carries out what it was sent, and would count them twice.
        """
        drops = self.take()
        for reason in list(drops):
            number = drops.pop(reason)
            try:
                count(reason, number)
            except SegmentBufferError as error:
                if not error.unknown:
                    self.add(reason, number)
                break
        for reason, number in drops.items():
            self.add(reason, number)
