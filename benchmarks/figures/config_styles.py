"""Measure Python's part of a call, by the style in which the application is configured."""

from __future__ import annotations

from contextlib import ExitStack
from statistics import median

from benchmarks.children import Contestant
from benchmarks.figures import Claim, Figure, Row
from celery_segment.testing import EmbeddedRedis

STYLES = {
    "update": "app.conf.update",
    "config_from_object": "app.config_from_object",
    "django": "Django's settings",
}
GOAL = 7.0


def measure(*, quick: bool) -> Figure:
    rounds, calls = (10, 2_000) if quick else (30, 5_000)
    found: dict[str, list[float]] = {style: [] for style in STYLES}
    with ExitStack() as stack:
        redis = stack.enter_context(EmbeddedRedis(appendonly=False))
        environ = {
            "SEGMENT_BENCH_REDIS": redis.url,
            # Of the connections that redis-py makes, none is the broker's.
            "SEGMENT_BENCH_BROKER": "memory://",
            "SEGMENT_BENCH_HOST": "http://127.0.0.1:1",
        }
        contestants = {
            style: stack.enter_context(
                Contestant(name, "benchmarks.styles", {"style": style}, environ=environ)
            )
            for style, name in STYLES.items()
        }
        for _ in range(rounds):
            for style, each in contestants.items():
                found[style].append(each.round(calls)["p50"])
    rows = [Row(STYLES[style], values) for style, values in found.items()]
    claims = [
        Claim(f"{STYLES[style]} / app.conf.update", _ratio(found[style], found["update"]), 1.1)
        for style in ("config_from_object", "django")
    ]
    claims += [Claim(f"{row.name}, µs", row.median, GOAL) for row in rows[1:]]
    return Figure("Python's part of a call, by the style of configuration", "µs", rows, claims)


def _ratio(values: list[float], others: list[float]) -> float:
    return median(a / b for a, b in zip(values, others, strict=True))
