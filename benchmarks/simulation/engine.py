"""Simulated time, and what processes wait for in it.

A process is a generator. It yields seconds to sleep for, or a ``Waiting`` that it is to be woken
from; ``yield from`` runs a part of it.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Generator
from itertools import count
from typing import Any, TypeAlias

__all__ = ["Clock", "Machine", "Queue", "Resource", "Steps", "Waiting"]

#: The processes that wait for something.
Waiting: TypeAlias = "deque[Steps]"
Steps: TypeAlias = Generator["float | Waiting", Any, Any]


class Clock:
    """Runs processes in the order of simulated time.

    Attributes:
        now: The time in seconds.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Steps, Any]] = []
        self._numbers = count()

    def start(self, process: Steps, value: Any = None, *, after: float = 0.0) -> None:
        """Start a process, or go on with one, and give it a value."""
        heapq.heappush(self._due, (self.now + after, next(self._numbers), process, value))

    def run(self, until: float) -> None:
        """Run until a time."""
        while self._due and self._due[0][0] <= until:
            self.now, _, process, value = heapq.heappop(self._due)
            try:
                wait = process.send(value)
            except StopIteration:
                continue
            if isinstance(wait, deque):
                wait.append(process)
            else:
                self.start(process, after=wait)
        self.now = until


class Resource:
    """What a number of processes may use at a time; the others wait in their order."""

    def __init__(self, clock: Clock, number: int = 1) -> None:
        self._clock, self._free = clock, number
        self._waiting: Waiting = deque()

    def take(self) -> Steps:
        """Wait for a place."""
        if self._free:
            self._free -= 1
        else:
            yield self._waiting

    def give_back(self) -> None:
        """Give the place to the next."""
        if self._waiting:
            self._clock.start(self._waiting.popleft())
        else:
            self._free += 1

    def use(self, seconds: float) -> Steps:
        """Hold a place for some time."""
        yield from self.take()
        yield seconds
        self.give_back()


class Queue:
    """Items that processes wait for."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.items: deque[Any] = deque()
        self.waiting: Waiting = deque()

    def put(self, item: Any, *, first: bool = False) -> None:
        """Add an item; one that comes first is taken next."""
        (self.items.appendleft if first else self.items.append)(item)
        if self.waiting:
            self._clock.start(self.waiting.popleft())

    def get(self) -> Steps:
        """Wait for an item, and return it."""
        while not self.items:
            yield self.waiting
        return self.items.popleft()

    def get_all(self) -> Steps:
        """Wait for an item, and return all that are there."""
        while not self.items:
            yield self.waiting
        found = list(self.items)
        self.items.clear()
        return found


class Machine:
    """Cores, which run one job at a time each.

    Args:
        clock: The clock.
        cores: The number of cores.
        others: How many of them others used; their processes take turns with ours.
        turn: Seconds that others run for at a time.

    Attributes:
        busy: The CPU seconds used, by owner.
    """

    #: Seconds after which a job leaves its core to others that wait.
    SLICE = 0.001

    def __init__(
        self,
        clock: Clock,
        cores: int,
        *,
        others: float = 0.0,
        turn: float = 0.01,
    ) -> None:
        self._clock, self._cores = clock, Resource(clock, cores)
        self.busy: dict[str, float] = {}
        for n in range(cores):
            if (share := min(others - n, 1.0)) > 0:
                clock.start(self._other(turn, share))

    def _other(self, turn: float, share: float) -> Steps:
        """Use a share of a core's time, in turns with ours, and get all of it."""
        since = self._clock.now
        while True:
            yield turn * (1 - share)
            owed, since = (self._clock.now - since) * share, self._clock.now
            yield from self.use("", max(owed, turn * share))

    def use(self, owner: str, seconds: float) -> Steps:
        """Run for so many seconds of CPU time."""
        left = seconds
        while left > 0:
            part = min(left, self.SLICE)
            left -= part
            yield from self._cores.take()
            self.busy[owner] = self.busy.get(owner, 0.0) + part
            yield part
            self._cores.give_back()
