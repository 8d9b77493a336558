"""Measure what typed events and tracking plans add to a call, beside other ways to check."""

from __future__ import annotations

from contextlib import ExitStack
from statistics import median

from benchmarks.children import Contestant
from benchmarks.figures import Claim, Figure, Row
from celery_segment.testing import EmbeddedRedis

KINDS = {
    "dict": "a dict, unchecked",
    "typed": "a typed event",
    "planned": "a dict, under a tracking plan",
    "pydantic": "a pydantic model, and its dict",
    "jsonschema": "a dict, checked by jsonschema",
    "nested": "a dict with two others in it, unchecked",
    "typed nested": "a typed event with two objects in it",
}
#: Microseconds that a typed event, and a tracking plan, may add.
GOAL, PLANNED = 2.0, 3.0


def measure(*, quick: bool) -> Figure:
    rounds, calls = (15, 2_000) if quick else (40, 5_000)
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with ExitStack() as stack:
        redis = stack.enter_context(EmbeddedRedis(appendonly=False))
        contestants = {
            kind: stack.enter_context(
                Contestant(name, "benchmarks.typed", {"kind": kind, "redis_url": redis.url})
            )
            for kind, name in KINDS.items()
        }
        for _ in range(rounds):
            for kind, each in contestants.items():
                found[kind].append(each.round(calls)["p50"])
    rows = [Row(KINDS[kind], values) for kind, values in found.items()]
    claims = [
        Claim("what a typed event adds to a dict, µs", _added(found, "typed", "dict"), GOAL),
        Claim("with two objects in it, µs", _added(found, "typed nested", "nested"), GOAL),
        Claim("what a tracking plan adds to a dict, µs", _added(found, "planned", "dict"), PLANNED),
    ]
    others = {KINDS[kind]: _added(found, kind, "dict") for kind in ("pydantic", "jsonschema")}
    notes = ["added: " + "; ".join(f"{name} {us:.1f} µs" for name, us in others.items())]
    title = "Python's part of a call whose properties are checked"
    return Figure(title, "µs", rows, claims, notes)


def _added(found: dict[str, list[float]], kind: str, other: str) -> float:
    return median(a - b for a, b in zip(found[kind], found[other], strict=True))
