"""A control: how much longer than on a machine of its own does work take at present?"""

from __future__ import annotations

import threading
import time

#: Seconds of processor time that a piece of work takes, and seconds between two pieces.
WORK, EVERY = 0.004, 0.1


class Control:
    """Does a small piece of work again and again, in the process of the endpoint and the proxies.

    What other processes take of the machine, it does not get: bounds on how fast a volley is
    recovered from are stretched by as much.
    """

    def __init__(self) -> None:
        self._pieces: list[tuple[float, float]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control")

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    def slowness(self, since: float) -> float:
        """Return how many times longer work has taken since a time: at least 1."""
        found = [slowness for at, slowness in reversed(self._pieces) if at >= since]
        return max(sum(found) / len(found), 1.0) if found else 1.0

    def _run(self):
        while not self._ended.wait(EVERY):
            began, until = time.monotonic(), time.thread_time() + WORK
            while time.thread_time() < until:
                pass
            self._pieces.append((began, (time.monotonic() - began) / WORK))
