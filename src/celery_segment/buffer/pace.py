"""The rate of requests that all processes of all workers keep to together."""

from __future__ import annotations

import time

from celery_segment.buffer.keys import prefix
from celery_segment.buffer.scripts import milliseconds, script
from celery_segment.buffer.topology.types import Topology

__all__ = ["Pace"]


class Pace:
    """Reserves requests, at most ``rate`` per second of all processes together.

    Each is reserved by itself: what a process reserved beforehand, to ask Redis less often, would
    be lost for all others where it turns out to be slower than it was.

    Its methods raise what those of ``Buffer`` raise.

    Args:
        topology: The servers of the buffer.
        rate: Requests per second.
        namespace: The namespace of the keys.
    """

    def __init__(self, topology: Topology, rate: float, namespace: str = "") -> None:
        self._rate = rate
        self._key = prefix("", namespace)
        self._server = topology.server(self._key)

    def wait(self, longest: float) -> bool:
        """Reserve a request, and wait until it may be made.

        Args:
            longest: The greatest number of seconds to wait.

        Returns:
            False, at once, where it may not be made within that time.
        """
        reserved, wait = self._server.run(
            script("reserve"), self._key, self._rate, milliseconds(longest)
        )
        if not reserved:
            return False
        time.sleep(wait / 1000)
        return True

    def give_back(self) -> None:
        """Leave a request that was reserved, and is not made, to others."""
        # What was given back twice would let them exceed the rate.
        self._server.run(script("unreserve"), self._key, self._rate, once=True)
