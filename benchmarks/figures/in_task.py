"""Measure Python's part of a call in a Celery task, and what its messageId costs there."""

from __future__ import annotations

from contextlib import ExitStack
from statistics import median

from benchmarks.children import Contestant
from benchmarks.figures import Claim, Figure, Row
from celery_segment.testing import EmbeddedRedis

OUTSIDE, OFF = "outside of a task", 'in a task, segment_idempotency = "off"'
ATTEMPT = 'in a task, segment_idempotency = "attempt"'
MODES = {"attempt": ATTEMPT, "off": OFF}
GOAL = 3.0


def measure(*, quick: bool) -> Figure:
    rounds, calls = (10, 2_000) if quick else (30, 5_000)
    found: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    with ExitStack() as stack:
        redis = stack.enter_context(EmbeddedRedis(appendonly=False))
        environ = {
            "SEGMENT_BENCH_REDIS": redis.url,
            "SEGMENT_BENCH_BROKER": "memory://",
            "SEGMENT_BENCH_HOST": "http://127.0.0.1:1",
        }
        contestants = {}
        for mode, name in MODES.items():
            each = Contestant(name, "benchmarks.intask", {"mode": mode}, environ=environ)
            contestants[mode] = stack.enter_context(each)
        for _ in range(rounds):
            for mode, each in contestants.items():
                found[mode].append(each.round(calls))
    attempts = found["attempt"]
    rows = [Row(OUTSIDE, [each["outside"] for each in attempts])]
    rows += [Row(name, [each["inside"] for each in found[mode]]) for mode, name in MODES.items()]
    claims = [Claim("what a task adds, µs", median(each["added"] for each in attempts), GOAL)]
    ratio = median(each["inside"] / each["outside"] for each in attempts)
    text = "The least CPU time of batches of calls; in both places by turns, in the same process."
    notes = [text, f"In a task / outside of one: {ratio:.2f}"]
    return Figure("Python's part of a call in a Celery task", "µs", rows, claims, notes)
