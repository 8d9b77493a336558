"""Measure the CPU time of live traffic, call and worker, per event and by rate.

The library's is that of its whole process: call and consumer thread, its flush included. What
the pacing of the calls costs is not counted for either.
"""

from __future__ import annotations

import time
from statistics import median
from typing import NamedTuple

from benchmarks.children import Contestant
from benchmarks.figures import Claim, Figure, Row
from benchmarks.stage import Stage

#: Seconds of traffic by its events per second.
QUICK = {10: 6, 100: 4, 1_000: 4, 3_000: 4}
FULL = {10: 12, 100: 10, 1_000: 8, 3_000: 6}
#: The greatest microseconds of the worker per event, by rate.
WORKER_GOALS = {1_000: 30, 3_000: 12}
#: Seconds in which a worker finishes what it does beside a delivery.
REST = 0.3


class Cost(NamedTuple):
    """The microseconds of CPU time per event, and the worker's share of a core."""

    call: float
    worker: float
    library: float
    share: float


def measure(*, quick: bool) -> Figure:
    rates = QUICK if quick else FULL
    found: dict[int, list[Cost]] = {rate: [] for rate in rates}
    with Stage() as stage:
        ours = stage.contestant("celery-segment", "call")
        library = stage.peer("library", "official", kind="live", host=stage.server.url)
        for each in (ours, library):
            each.round([1_000, 200])
        for _ in range(1 if quick else 3):
            for rate, seconds in rates.items():
                found[rate].append(cost(stage, ours, library, rate, rate * seconds))
    rows = [row for rate, costs in found.items() for row in _rows(rate, costs)]
    claims = [claim for rate, goal in WORKER_GOALS.items() for claim in _claims(rate, goal, found)]
    return Figure("CPU time per event in live traffic", "µs", rows, claims, [_note(found)])


def cost(stage: Stage, ours: Contestant, library: Contestant, rate: int, number: int) -> Cost:
    """Measure a rate, of the library after celery-segment."""
    stage.drain()
    stage.server.clear()
    time.sleep(REST)
    before, began = stage.worker.cpu(), time.monotonic()
    call = ours.round([rate, number])["cpu"]
    stage.drain()
    time.sleep(REST)
    worker, wall = stage.worker.cpu() - before, time.monotonic() - began
    _check(stage, number)
    theirs = library.round([rate, number])["cpu"]
    _check(stage, number)
    each = 1e6 / number
    return Cost(call * each, worker * each, theirs * each, worker / wall)


def _check(stage: Stage, number: int) -> None:
    if len(stage.server.received) != number:
        raise RuntimeError(f"{len(stage.server.received)} of {number} events were delivered")
    stage.server.clear()


def _rows(rate: int, costs: list[Cost]) -> list[Row]:
    return [
        Row(f"{rate:,}/s: celery-segment's call", [each.call for each in costs]),
        Row(f"{rate:,}/s: celery-segment's worker", [each.worker for each in costs]),
        Row(f"{rate:,}/s: segment-analytics-python's process", [each.library for each in costs]),
    ]


def _claims(rate: int, goal: float, found: dict[int, list[Cost]]) -> list[Claim]:
    costs = found[rate]
    ratio = median((each.call + each.worker) / each.library for each in costs)
    worker = median(each.worker for each in costs)
    return [
        Claim(f"at {rate:,}/s, call and worker / the library's process", ratio, 1.0),
        Claim(f"at {rate:,}/s, the worker, µs", worker, goal),
    ]


def _note(found: dict[int, list[Cost]]) -> str:
    shares = {rate: median(each.share for each in costs) for rate, costs in found.items()}
    told = "; ".join(f"{share:.1%} at {rate:,}/s" for rate, share in shares.items())
    return f"The worker's share of a core: {told}."
