"""The rate of requests that all processes of all workers keep to together."""

from __future__ import annotations

import os
import time
from threading import Lock

from celery_segment.buffer.keys import prefix
from celery_segment.buffer.pool import Pool
from celery_segment.buffer.scripts import milliseconds, script

__all__ = ["Pace"]

#: Seconds for which a process reserves requests at once, so that few of them ask Redis.
AHEAD = 0.02
#: Seconds after which reserved requests are given up.
KEEP = 1.0


class Pace:
    """Reserves requests, at most ``rate`` per second of all processes together.

    It raises what ``Pool`` raises.

    Args:
        pool: Connections to Redis.
        rate: Requests per second.
        namespace: The namespace of the keys.
    """

    def __init__(self, pool: Pool, rate: float, namespace: str = "") -> None:
        self._pool = pool
        self._rate = rate
        self._key = prefix("", namespace)
        self._at_once = max(int(rate * AHEAD), 1)
        self._pid, self._lock = os.getpid(), Lock()
        self._left, self._until = 0, 0.0

    def wait(self, longest: float) -> bool:
        """Wait until a request may be made.

        Args:
            longest: The greatest number of seconds to wait.

        Returns:
            False, at once, where it may not be made within that time.
        """
        if self._pid != os.getpid():
            # Those are the parent's, and so is the lock.
            self._pid, self._lock, self._left = os.getpid(), Lock(), 0
        with self._lock:
            if self._left > 0 and time.monotonic() < self._until:
                self._left -= 1
                return True
        arguments = (self._rate, self._at_once, milliseconds(longest))
        reserved, wait = self._pool.run(script("pace"), self._key, *arguments)
        if not reserved:
            return False
        time.sleep(wait / 1000)
        with self._lock:
            self._left, self._until = self._at_once - 1, time.monotonic() + KEEP
        return True
