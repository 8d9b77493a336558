"""Measure the throughput of delivery by workers on other hosts, by the latency of the network."""

from __future__ import annotations

from benchmarks.figures import Figure, Row
from benchmarks.network import why_not
from benchmarks.simulation.measuring import HOSTS, measure_deliveries


def measure(*, quick: bool) -> Figure:
    title = "Delivery by workers on other hosts"
    reason = why_not()
    if reason:
        return Figure(title, "events/s", [], notes=[f"Not measured. {reason}"])
    found = measure_deliveries(HOSTS, 2 if quick else 5)
    rows = [Row(what.text, [value["rate"] for value in each]) for what, each in found.items()]
    notes = ["The hosts are network namespaces, and the latency of their links is added."]
    return Figure(title, "events/s", rows, notes=notes, more_is_better=True)
