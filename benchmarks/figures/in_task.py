"""Measure Python's part of a call in a Celery task, and what its messageId costs there."""

from __future__ import annotations

from contextlib import ExitStack
from statistics import median

from benchmarks.children import Contestant
from benchmarks.figures import Claim, Figure, Row
from celery_segment.testing import EmbeddedRedis

OUTSIDE, OFF = "outside of a task", 'in a task, segment_idempotency = "off"'
ATTEMPT = 'in a task, segment_idempotency = "attempt"'
#: By name: the mode, and whether in a task.
PLACES = {OUTSIDE: ("attempt", False), OFF: ("off", True), ATTEMPT: ("attempt", True)}


def measure(*, quick: bool) -> Figure:
    rounds, calls = (10, 2_000) if quick else (30, 5_000)
    found: dict[str, list[float]] = {name: [] for name in PLACES}
    with ExitStack() as stack:
        redis = stack.enter_context(EmbeddedRedis(appendonly=False))
        environ = {
            "SEGMENT_BENCH_REDIS": redis.url,
            "SEGMENT_BENCH_BROKER": "memory://",
            "SEGMENT_BENCH_HOST": "http://127.0.0.1:1",
        }
        contestants = {}
        for name, (mode, in_task) in PLACES.items():
            settings = {"mode": mode, "in_task": in_task}
            each = Contestant(name, "benchmarks.intask", settings, environ=environ)
            contestants[name] = stack.enter_context(each)
        for _ in range(rounds):
            for name, each in contestants.items():
                found[name].append(each.round(calls)["p50"])
    rows = [Row(name, values) for name, values in found.items()]
    added = [inside - out for inside, out in zip(found[ATTEMPT], found[OUTSIDE], strict=True)]
    ratio = [inside / out for inside, out in zip(found[ATTEMPT], found[OUTSIDE], strict=True)]
    claims = [Claim("what a task adds, µs", median(added), 3.0)]
    notes = [f"In a task / outside of one: {median(ratio):.2f}"]
    return Figure("Python's part of a call in a Celery task", "µs", rows, claims, notes)
