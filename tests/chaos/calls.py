"""The part of the ledger that calls have: where none may fail, and hardly one be slow."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from chaos.books import Call
from chaos.director import Story, Volley


@dataclass
class Calls:
    """Calls in volleys of one fault that calls must go on through.

    Attributes:
        calls: Those that were slow, or raised.
        volleys: All volleys.
        seconds: How long all of it took.
        forgotten: How many connections to the buffer were forgotten.
    """

    calls: list[Call]
    volleys: list[Volley]
    seconds: float
    forgotten: int

    @classmethod
    def draw_up(cls, calls: list[Call], story: Story, forgotten: int) -> Calls:
        return cls(calls, story.volleys, story.seconds, forgotten)

    @property
    def held(self) -> list[Volley]:
        """The volleys that are held to it."""
        return [
            volley
            for volley in self.volleys
            if volley.calls_from is not None and volley.recovered is not None
        ]

    @property
    def failed(self) -> list[str]:
        """Calls that raised where none may."""
        return [
            f"{call.error}, {call.began - volley.calls_from:.2f} s after: {volley.names}"
            for volley in self.held
            for call in self._within(volley)
            if call.error != "-"
        ]

    @property
    def slow(self) -> list[str]:
        """Processes of which more calls were slow than one, and those that are so in calm."""
        found = []
        for volley in self.held:
            by_process: dict[str, list[Call]] = defaultdict(list)
            for call in self._within(volley):
                by_process[call.producer].append(call)
            allowed = 1 + math.ceil(self.slow_in_calm * (volley.over - volley.calls_from))
            found += [
                f"{len(calls)} of {producer}, allowed are {allowed}: {volley.names}"
                for producer, calls in by_process.items()
                if len(calls) > allowed
            ]
        return found

    @property
    def slow_in_calm(self) -> float:
        """How many calls were slow a second while nothing was wrong: what the machine does."""
        busy = sum(volley.over - volley.began for volley in self.volleys if volley.over)
        calm = max(self.seconds - busy, 1.0)
        return sum(not self._is_in_volley(call) for call in self.calls) / calm

    @property
    def longest(self) -> float:
        """Seconds of the longest call in those volleys."""
        found = [call.seconds for volley in self.held for call in self._within(volley)]
        return max(found, default=0.0)

    @property
    def problems(self) -> dict[str, list[str]]:
        return {
            "Calls that failed where none may": self.failed,
            "Calls that were slow, more than one of a process": self.slow,
        }

    def figures(self) -> Iterator[tuple[str, Any]]:
        yield "connections that were forgotten", self.forgotten
        yield "volleys in which no call may fail", len(self.held)
        yield "… calls that failed", len(self.failed)
        yield "… longest call", f"{self.longest:.2f} s"
        yield "slow calls in calm, a minute", f"{60 * self.slow_in_calm:.1f}"

    def _within(self, volley: Volley) -> list[Call]:
        return [call for call in self.calls if volley.calls_from <= call.began <= volley.over]

    def _is_in_volley(self, call: Call) -> bool:
        end = call.began + call.seconds
        return any(v.began <= end and call.began <= (v.over or end) for v in self.volleys)
