"""Measure the latency of a call where nothing disturbs it: a core each, kept awake, in a loop.

``live_call`` measures it in live traffic. This figure shows what the library's own part costs.
"""

from __future__ import annotations

from contextlib import ExitStack
from statistics import median

from benchmarks.children import Contestant
from benchmarks.cores import apart
from benchmarks.figures import Claim, Figure, Row
from celery_segment.testing import EmbeddedRedis

OURS, SOCKET = "track.delay, stored in Redis", "a bare socket that appends the same bytes"
MEMORY, CELERY = "segment-analytics-python, in memory", "Celery's own .delay, to the same Redis"
BATCH = "track.delay in a batch() of 100, each"


def measure(*, quick: bool) -> Figure:
    rounds, calls = (15, 500) if quick else (60, 1_000)
    with ExitStack() as stack:
        redis = stack.enter_context(EmbeddedRedis(appendonly=False))
        client = stack.enter_context(redis.client())
        stack.enter_context(apart(client.info("server")["process_id"]))
        at = {"redis_url": redis.url}
        ours = "benchmarks.ours"
        contestants = [
            Contestant(SOCKET, ours, {"kind": "socket", **at}),
            Contestant(OURS, ours, {"kind": "call", **at}),
            Contestant(MEMORY, "benchmarks.peers.official", {"kind": "call"}, peer=True),
            Contestant(CELERY, "benchmarks.peers.plain_celery", at, peer=True),
            Contestant(BATCH, ours, {"kind": "batch", **at}),
        ]
        for each in contestants:
            stack.enter_context(each)
            each.round(calls)
        found = {each.name: [] for each in contestants}
        for _ in range(rounds):
            for each in contestants:
                found[each.name].append(each.round(calls if each.name != CELERY else calls // 10))
            client.flushall()
    rows = [Row(name, [taken["p50"] for taken in all_]) for name, all_ in found.items()]
    return Figure("The call on cores of its own, p50", "µs", rows, _claims(found), _notes(found))


def _claims(found: dict[str, list[dict[str, float]]]) -> list[Claim]:
    def pairs(name: str, other: str, p: str = "p50") -> list[tuple[float, float]]:
        return [(a[p], b[p]) for a, b in zip(found[name], found[other], strict=True)]

    added = [a - b for a, b in pairs(OURS, SOCKET)]
    memory = [taken["p50"] for taken in found[MEMORY]]
    return [
        Claim(
            "what a call adds to the bare round trip / the in-memory call",
            median(a / m for a, m in zip(added, memory, strict=True)),
            0.75,
        ),
        Claim("a call / Celery's .delay", median(a / b for a, b in pairs(OURS, CELERY)), 0.2),
    ]


def _notes(found: dict[str, list[dict[str, float]]]) -> list[str]:
    p99 = {name: median(taken["p99"] for taken in all_) for name, all_ in found.items()}
    return ["p99: " + "; ".join(f"{name} {us:,.0f} µs" for name, us in p99.items())]
