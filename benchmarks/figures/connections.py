"""Measure the appends per second that one Redis takes from many connections."""

from __future__ import annotations

from statistics import median

from benchmarks.connections import TOOL_ABSENT, Connections
from benchmarks.figures import Claim, Figure, Row
from benchmarks.simulation.parameters import Appending

TOOL = [Appending(1, number, tool=True) for number in (1, 50)]
CALLS = [Appending(*each) for each in ((1, 1), (2, 1), (4, 1), (8, 1), (2, 8))]
#: Redis' CPU time per append of calls, beside that of as many appends of redis-benchmark. Cores
#: that many processes share have less in their caches.
GOAL = 4.0


def measure(*, quick: bool) -> Figure:
    rounds, seconds = (5, 0.4) if quick else (15, 0.5)
    found: dict[Appending, list[dict[str, float]]] = {}
    with Connections() as connections:
        by_tool = TOOL if connections.tool else []
        for _ in range(rounds):
            for who in by_tool:
                values = connections.by_tool(who.threads, seconds)
                found.setdefault(who, []).append(values)
            for who in CALLS:
                values = connections.calls(who.processes, who.threads, seconds)
                found.setdefault(who, []).append(values)
    rows = [Row(who.text, [value["rate"] for value in each]) for who, each in found.items()]
    claims, notes = [], [] if by_tool else [f"{TOOL_ABSENT} Its rows are left out."]
    if by_tool:
        tool, calls = found[TOOL[-1]], found[CALLS[-1]]
        ratio = median(a["redis"] / b["redis"] for a, b in zip(calls, tool, strict=True))
        text = "Redis' CPU time per append, calls of 16 threads / redis-benchmark"
        claims.append(Claim(text, ratio, GOAL))
    cpu = (
        f"{who.text}: {median(v['redis'] for v in each) * 1e6:.1f}" for who, each in found.items()
    )
    notes.append(f"CPU time of Redis per append, µs: {'; '.join(cpu)}.")
    title = "Appends that one Redis takes from many connections"
    return Figure(title, "appends/s", rows, claims, notes, more_is_better=True)
