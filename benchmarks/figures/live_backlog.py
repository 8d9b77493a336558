"""Measure the CPU time of a worker that delivers what is stored at 30,000 events a second."""

from __future__ import annotations

from statistics import median

from benchmarks.children import Contestant
from benchmarks.figures import Claim, Figure, Row
from benchmarks.stage import Stage

OURS, LIBRARY = "celery-segment's worker", "segment-analytics-python's consumer, gzip"
RATE = 30_000


def measure(*, quick: bool) -> Figure:
    rounds, number = (3, 90_000) if quick else (5, 300_000)
    found: dict[str, list[float]] = {OURS: [], LIBRARY: []}
    rates = []
    with Stage() as stage:
        filler = stage.contestant("filler", "fill")
        library = stage.peer(LIBRARY, "official", kind="consume", host=stage.server.url)
        for _ in range(rounds):
            seconds, rate = worker_cpu(stage, filler, number)
            found[OURS].append(number / seconds)
            rates.append(rate)
            found[LIBRARY].append(10_000 / library.round(10_000)["cpu"])
    ratio = median(a / b for a, b in zip(found[OURS], found[LIBRARY], strict=True))
    return Figure(
        "Events delivered per CPU second while they are stored",
        "events/s",
        [Row(name, values) for name, values in found.items()],
        [Claim("events per CPU second / the library's", ratio, 15, at_least=True)],
        [f"{min(rates):,.0f} events/s were stored, {number:,} in a round."],
        more_is_better=True,
    )


def worker_cpu(stage: Stage, filler: Contestant, number: int) -> tuple[float, float]:
    """Return the worker's CPU seconds for ``number`` events, and the rate they were stored at."""
    stage.drain()
    stage.worker.wait_until_idle()
    stage.server.clear()
    before = stage.worker.cpu()
    rate = filler.round([RATE, number])
    stage.drain()
    seconds = stage.worker.cpu() - before
    if len(stage.server.received) != number:
        raise RuntimeError("not all were delivered")
    return seconds, rate
