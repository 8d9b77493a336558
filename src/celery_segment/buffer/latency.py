"""How long messages took from the call to their delivery, as a histogram.

It is counted when a batch is delivered, by the time of its first message and the time at which it
was sealed (``_latencies.lua``): a call pays nothing for it, and a batch the same whatever it holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import accumulate

import msgspec

__all__ = ["BOUNDS", "BUCKETS", "Latency"]

#: The upper bounds of the buckets, in seconds; the last bucket has none. Redis holds the counts by
#: their bucket's number: another list would need a new format.
BUCKETS = (
    *(0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0),
    *(120.0, 300.0, 900.0, 3_600.0, 14_400.0, 43_200.0, math.inf),
)
#: The same as the scripts take them: in milliseconds, without the last.
BOUNDS = ",".join(f"{bound * 1000:.0f}" for bound in BUCKETS[:-1])


class Latency(msgspec.Struct, frozen=True):
    """How long messages took from the call to their delivery.

    Attributes:
        counts: How many messages are in each bucket, each counted once. The bounds are those of
            the metric ``segment_delivery_latency_seconds``; the last bucket has none.
        sum: The sum of their times, in seconds.
    """

    counts: tuple[int, ...] = (0,) * len(BUCKETS)
    sum: float = 0.0

    @classmethod
    def of(cls, totals: Mapping[str, int]) -> Latency:
        """Read it from a source's totals, by name."""
        counts = (totals.get(f"latency:{n}", 0) for n in range(1, len(BUCKETS) + 1))
        return cls(tuple(counts), totals.get("latency_sum", 0) / 1000)

    @classmethod
    def sum_of(cls, latencies: Iterable[Latency]) -> Latency:
        """Return the latencies of all messages of several."""
        return sum(latencies, cls())

    @property
    def count(self) -> int:
        """The number of the messages."""
        return sum(self.counts)

    def quantile(self, q: float) -> float | None:
        """Return the time in seconds within which a share of the messages was delivered.

        Within a bucket the times are taken to be spread evenly, as Prometheus does. Beyond the
        last bound, it is that bound.

        Args:
            q: The share, from 0 to 1: 0.95 for the 95th percentile.

        Returns:
            The time; None where there is no message.
        """
        if not self.count:
            return None
        wanted, lower = q * self.count, 0.0
        for upper, count, up_to in zip(BUCKETS, self.counts, accumulate(self.counts), strict=True):
            if count and up_to >= wanted:
                break
            lower = upper
        return lower if upper == math.inf else upper - (upper - lower) * (up_to - wanted) / count

    def __add__(self, other: Latency) -> Latency:
        counts = map(sum, zip(self.counts, other.counts, strict=True))
        return Latency(tuple(counts), self.sum + other.sum)

    def __sub__(self, earlier: Latency) -> Latency:
        """Return those of the messages delivered since, given an earlier state of the same.

        Nothing is negative, though the totals may have been moved to another source meanwhile.
        """
        pairs = zip(self.counts, earlier.counts, strict=True)
        return Latency(
            tuple(max(now - before, 0) for now, before in pairs), max(self.sum - earlier.sum, 0.0)
        )
