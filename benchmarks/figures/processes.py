"""Measure the throughput of delivery by the number of worker processes."""

from __future__ import annotations

from statistics import median

from benchmarks.figures import Claim, Figure, Row
from benchmarks.simulation.measuring import measure_deliveries
from benchmarks.simulation.parameters import Deliveries

#: Answers that take a while, as Segment's do, and answers at once: then the cores are the limit.
SLOW = [Deliveries(number, 0, 50_000 * number, 0.1) for number in (1, 2, 4)]
AT_ONCE = [Deliveries(number, 0, 300_000, 0.0) for number in (1, 2, 4)]


def measure(*, quick: bool) -> Figure:
    found = measure_deliveries((*SLOW, *AT_ONCE), 2 if quick else 5)
    rows = [Row(what.text, [value["rate"] for value in each]) for what, each in found.items()]
    one, *_, many = (median(value["rate"] for value in found[what]) for what in SLOW)
    text = f"{SLOW[-1].processes} processes / 1, answers after 100 ms"
    claims = [Claim(text, many / one, 3.2, at_least=True)]
    title = "Delivery by the number of worker processes"
    notes = ["Workers, Redis and the stub endpoint share the cores."]
    return Figure(title, "events/s", rows, claims, notes, more_is_better=True)
