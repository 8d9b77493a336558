"""The rate of requests that all processes of all workers keep to together."""

from __future__ import annotations

import os
import time
from threading import Lock

from celery_segment.buffer.keys import prefix
from celery_segment.buffer.scripts import milliseconds, script
from celery_segment.buffer.topology.types import Topology

__all__ = ["Pace"]

#: Seconds of the rate which a process may reserve at once, so that a fast one rarely asks Redis.
AHEAD = 0.02
#: Seconds after which reserved requests are given up.
KEEP = 1.0


class Pace:
    """Reserves requests, at most ``rate`` per second of all processes together.

    It raises what ``Buffer`` raises.

    Args:
        topology: The servers of the buffer.
        rate: Requests per second.
        namespace: The namespace of the keys.
    """

    def __init__(self, topology: Topology, rate: float, namespace: str = "") -> None:
        self._rate = rate
        self._key = prefix("", namespace)
        self._server = topology.server(self._key)
        self._most = max(int(rate * AHEAD), 1)
        self._pid, self._lock = os.getpid(), Lock()
        self._reserved, self._left, self._until = 0, 0, 0.0

    def wait(self, longest: float) -> bool:
        """Wait until a request may be made.

        Args:
            longest: The greatest number of seconds to wait.

        Returns:
            False, at once, where it may not be made within that time.
        """
        if self._pid != os.getpid():
            # Those are the parent's, and so is the lock.
            self._pid, self._lock, self._reserved, self._left = os.getpid(), Lock(), 0, 0
        with self._lock:
            if self._left > 0 and time.monotonic() < self._until:
                self._left -= 1
                return True
            count = self._next_count()
        arguments = (self._rate, count, milliseconds(longest))
        reserved, wait = self._server.run(script("pace"), self._key, *arguments)
        if not reserved:
            return False
        time.sleep(wait / 1000)
        with self._lock:
            self._reserved, self._left = count, count - 1
            self._until = time.monotonic() + KEEP
        return True

    def _next_count(self) -> int:
        """How many requests to reserve: twice as many as were used up in time, else one.

        What is given up is lost for all workers, so a slow process reserves one by one.
        """
        if self._left or time.monotonic() >= self._until:
            return 1
        return min(max(2 * self._reserved, 1), self._most)
