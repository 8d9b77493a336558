"""What a source did in each five minutes of the last day."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from celery_segment.buffer.latency import Latency
from celery_segment.text import one_line

__all__ = ["SECONDS", "Period", "merge_periods", "periods_in"]

#: Seconds that a period lasts, and for which it is kept then: as ``_add_to_history.lua`` has it.
SECONDS = 300
KEPT = 86_400
_ATTEMPTS = "attempts:"


@dataclass(frozen=True)
class Period:
    """What was counted within five minutes.

    Attributes:
        start: When it began, in seconds since the epoch by Redis' clock.
        accepted: Messages that were stored, counted when their batch was sealed.
        delivered: Messages that were delivered.
        buried: Messages that became dead letters.
        attempts: Requests by the answer's status, else "timeout", "tls" or "network".
        latency: How long the delivered messages took from the call.
    """

    start: float
    accepted: int
    delivered: int
    buried: int
    attempts: Mapping[str, int]
    latency: Latency

    @classmethod
    def of(cls, number: int, flat: Sequence[bytes]) -> Period:
        """Read it as history.lua gives it: its number, and names and numbers in turn."""
        n = {_name(flat[i]): int(flat[i + 1]) for i in range(0, len(flat), 2)}
        attempts = {k.removeprefix(_ATTEMPTS): n[k] for k in sorted(n) if k.startswith(_ATTEMPTS)}
        return cls(
            float(number * SECONDS),
            n.get("accepted", 0),
            n.get("delivered", 0),
            n.get("buried", 0),
            attempts,
            Latency.of(n),
        )

    def __add__(self, other: Period) -> Period:
        """Return what was counted in both: in two shards, or in two periods."""
        attempts = Counter(self.attempts)
        attempts.update(other.attempts)
        return Period(
            min(self.start, other.start),
            self.accepted + other.accepted,
            self.delivered + other.delivered,
            self.buried + other.buried,
            dict(sorted(attempts.items())),
            self.latency + other.latency,
        )


@lru_cache(maxsize=1_024)
def _name(raw: bytes) -> str:
    # Of a day's periods, the same few names are read some ten thousand times.
    return one_line(raw)


def periods_in(hours: float) -> int:
    """Return how many periods the last hours have, the present one among them: one at least."""
    return max(1, min(math.ceil(hours * 3600 / SECONDS), KEPT // SECONDS))


def merge_periods(shards: Iterable[Iterable[Period]]) -> list[Period]:
    """Return the history of a source, given those of its shards, the oldest period first.

    The clocks of several servers may be in different periods.
    """
    found: dict[float, Period] = {}
    for period in (period for periods in shards for period in periods):
        found[period.start] = found[period.start] + period if period.start in found else period
    return [found[start] for start in sorted(found)]
