"""Measure the server time of a call in Redis, by the commandstats of the append script."""

from __future__ import annotations

from statistics import median

from benchmarks.children import Contestant
from benchmarks.figures import Claim, Figure, Row
from celery_segment.testing import EmbeddedRedis

GOAL = 8.0
OURS, BARE = "an append (EVALSHA)", "a bare APPEND"


def measure(*, quick: bool) -> Figure:
    rounds, calls = (10, 2_000) if quick else (30, 5_000)
    found: dict[str, list[float]] = {OURS: [], BARE: []}
    with EmbeddedRedis(appendonly=False) as redis, redis.client() as client:
        at = {"redis_url": redis.url}
        with (
            Contestant("call", "benchmarks.ours", {"kind": "call", **at}) as call,
            Contestant("socket", "benchmarks.ours", {"kind": "socket", **at}) as bare,
        ):
            for _ in range(rounds):
                for name, each, command in (
                    (OURS, call, "cmdstat_evalsha"),
                    (BARE, bare, "cmdstat_append"),
                ):
                    client.config_resetstat()
                    each.round(calls)
                    # The commands within a script have their own statistics as well.
                    found[name].append(client.info("commandstats")[command]["usec_per_call"])
                client.flushall()
    rows = [Row(name, values) for name, values in found.items()]
    ratio = median(ours / other for ours, other in zip(found[OURS], found[BARE], strict=True))
    claims = [Claim("an append / a bare APPEND", ratio, GOAL)]
    return Figure("Server time of a call in Redis", "µs", rows, claims)
