"""Measure the time from a call to the arrival of its message at the endpoint.

The library does the same at the same time, with an endpoint of its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import median

from benchmarks.children import Contestant
from benchmarks.figures import Claim, Figure, Row
from benchmarks.pacing import percentile
from benchmarks.stage import Stage
from celery_segment.testing import SegmentServer

OURS, LIBRARY = "celery-segment", "segment-analytics-python"
#: The numbers of messages by their rate.
QUICK = {1: 6, 50: 200, 1_000: 3_000}
FULL = {1: 20, 50: 500, 1_000: 6_000}
#: The sources whose first message after a pause is measured. The pause is longer than the
#: flush_interval, and the rates are measured during it.
PAUSED = [f"paused-{n}" for n in range(1, 9)]
PAUSE = 11.0
#: The source with flush_at=1.
SINGLE = "single"
#: Seconds for which a message may be on its way.
LOST = 20.0

Stamped = list[tuple[str, float]]


def measure(*, quick: bool) -> Figure:
    rates = QUICK if quick else FULL
    sources = {name: {"write_key": name} for name in PAUSED}
    sources[SINGLE] = {"write_key": SINGLE, "flush_at": 1}
    with Stage({"segment_sources": sources}) as stage, SegmentServer(record="ids") as theirs:
        ours = stage.contestant(OURS, "stamped")
        library = stage.peer(LIBRARY, "official", kind="stamped", host=theirs.url)
        _seconds(stage.server, ours.round([5, len(PAUSED), PAUSED]))
        began = time.monotonic()
        found: dict[str, list[float]] = {}
        for rate, number in rates.items():
            own, other = _together(ours, library, rate, number)
            found[f"{OURS}, {rate:,}/s"] = _seconds(stage.server, own)
            found[f"{LIBRARY}, {rate:,}/s"] = _seconds(theirs, other)
        single = ours.round([20, rates[50] // 4, [SINGLE]])
        found[f"{OURS}, flush_at=1, 20/s"] = _seconds(stage.server, single)
        time.sleep(max(began + PAUSE - time.monotonic(), 1.0))
        paused = ours.round([2, len(PAUSED), PAUSED])
        found[f"{OURS}, first after a pause"] = _seconds(stage.server, paused)
    rows = [
        Row(f"{name}, {told}", [_at(values, percent) * 1000])
        for name, values in found.items()
        for percent, told in ((50, "p50"), (99, "p99"))
    ]
    return Figure("From a call to its arrival at the endpoint", "ms", rows, list(_claims(found)))


def _together(
    ours: Contestant, library: Contestant, rate: int, number: int
) -> tuple[Stamped, Stamped]:
    with ThreadPoolExecutor(2) as executor:
        rounds = [executor.submit(each.round, [rate, number]) for each in (ours, library)]
        return rounds[0].result(), rounds[1].result()


def _seconds(server: SegmentServer, stamped: Stamped) -> list[float]:
    """Wait until the messages are there, and return the seconds that each was on its way."""
    ids = [message_id for message_id, _ in stamped]
    if not server.wait_for(lambda: all(i in server.received for i in ids), LOST):
        raise RuntimeError("not all were delivered")
    arrived: dict[str, float] = {}
    for request in server.requests:
        for message_id in request.message_ids:
            arrived.setdefault(message_id, request.at)
    server.clear()
    return [arrived[message_id] - at for message_id, at in stamped]


def _at(values: list[float], percent: float) -> float:
    return median(values) if percent == 50 else percentile(values, percent)


def _claims(found: dict[str, list[float]]) -> Iterator[Claim]:
    for name, values in found.items():
        if name.startswith(OURS):
            when = name.removeprefix(f"{OURS}, ")
            yield Claim(f"{when}, p50, ms", _at(values, 50) * 1000, 300)
            yield Claim(f"{when}, p99, ms", _at(values, 99) * 1000, 1_000)
