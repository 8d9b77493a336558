"""Measure the latency of a call in live traffic, and what it sends to the broker.

Nothing is arranged in favour of the call: a worker with the default settings delivers what is
stored, processes run where the system puts them, cores sleep between two calls, and the
application is configured as the documentation shows it.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from benchmarks.children import Contestant
from benchmarks.figures import Claim, Figure, Row
from benchmarks.pacing import percentile
from benchmarks.proxy import CountingProxy
from benchmarks.stage import Stage

OURS, SOCKET = "track.delay, stored in Redis", "a bare socket that appends the same bytes"
MEMORY, CELERY = "segment-analytics-python, in memory", "Celery's own .delay, to the same Redis"
RATES = (50, 1_000)

#: The microseconds of a contestant's calls, by rate: a list for each round.
Found = dict[int, dict[str, list[list[float]]]]


def measure(*, quick: bool) -> Figure:
    rounds = 3 if quick else 7
    numbers = {50: 120, 1_000: 500} if quick else {50: 200, 1_000: 2_000}
    with Stage() as stage:
        contestants = _contestants(stage)
        for each in contestants:
            each.round([1_000, 200])
        found: Found = {rate: {each.name: [] for each in contestants} for rate in RATES}
        for _ in range(rounds):
            for rate in RATES:
                for each in contestants:
                    found[rate][each.name].append(each.round([rate, numbers[rate]])["took"])
    number = 150 if quick else 600
    claims = [claim for rate in RATES for claim in _claims(rate, found[rate])]
    claims.append(Claim(f"commands to the broker by {number} calls", broker_commands(number), 0))
    return Figure("The call in live traffic", "µs", _rows(found), claims, list(_notes(found)))


def broker_commands(number: int) -> int:
    """Return the number of commands that a caller sends to the broker, at 50 calls/s."""
    with Stage(own_broker=True) as stage, CountingProxy(stage.broker.url) as proxy:
        calls = stage.contestant(OURS, "call", SEGMENT_BENCH_BROKER=proxy.url)
        before = proxy.commands
        calls.round([50, number])
        return proxy.commands - before


def _contestants(stage: Stage) -> list[Contestant]:
    database = stage.redis.url.removesuffix("/0") + "/1"  # the worker does not know these tasks
    return [
        stage.contestant(SOCKET, "socket"),
        stage.contestant(OURS, "call"),
        stage.peer(MEMORY, "official", kind="paced"),
        stage.peer(CELERY, "plain_celery", redis_url=database, paced=True),
    ]


def _claims(rate: int, found: dict[str, list[list[float]]]) -> list[Claim]:
    medians = {name: [median(took) for took in rounds] for name, rounds in found.items()}
    ratios = zip(medians[OURS], medians[SOCKET], medians[MEMORY], strict=True)
    return [
        Claim(f"at {rate:,}/s, p99 / p50", _spread(found[OURS]), 4),
        Claim(
            f"at {rate:,}/s, what a call adds to the bare round trip / the in-memory call",
            median((ours - bare) / memory for ours, bare, memory in ratios),
            1.5,
        ),
    ]


def _rows(found: Found) -> list[Row]:
    return [
        Row(f"{name}, {rate:,}/s, p{p}", [percentile(took, p) for took in rounds])
        for rate, contestants in found.items()
        for name, rounds in contestants.items()
        for p in (50, 99)
    ]


def _notes(found: Found) -> Iterator[str]:
    slowest = max(took for rounds in found.values() for each in rounds[OURS] for took in each)
    yield f"The slowest call took {slowest:,.0f} µs."
    for rate, contestants in found.items():
        spread = _spread(contestants[SOCKET])
        yield f"At {rate:,}/s, p99 / p50 of the bare socket is {spread:.1f}."


def _spread(rounds: list[list[float]]) -> float:
    """Return p99 / p50."""
    return median(percentile(took, 99) / median(took) for took in rounds)
