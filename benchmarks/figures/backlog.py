"""Measure whether the delivery of an event costs more with a backlog of a million events."""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.figures import Claim, Figure, Row
from benchmarks.figures.delivery import worker_cpu
from benchmarks.ours import application
from celery_segment.testing import EmbeddedRedis, SegmentServer


def measure(*, quick: bool) -> Figure:
    great = 200_000 if quick else 1_000_000
    rounds = 2 if quick else 3
    found: dict[int, list[float]] = {10_000: [], great: []}
    with ExitStack() as stack:
        redis = stack.enter_context(EmbeddedRedis(appendonly=False))
        server = stack.enter_context(SegmentServer(record="ids"))
        app = application(redis.url, segment_host=server.url, segment_write_key="key")
        environ = {"SEGMENT_BENCH_REDIS": redis.url, "SEGMENT_BENCH_HOST": server.url}
        for _ in range(rounds):
            for size, values in found.items():
                # Repeat small backlogs, so that the numbers of measured events are similar.
                runs = great // size // (10 if size < great else 1) or 1
                seconds = sum(worker_cpu(app, environ, server, size) for _ in range(runs))
                values.append(seconds * 1e6 / (size * runs))
    rows = [Row(f"{size:,} waiting events", values) for size, values in found.items()]
    claims = [
        Claim(f"cost per event at {great:,} / at 10,000", rows[1].median / rows[0].median, 1.1)
    ]
    return Figure("CPU time per delivered event, by size of the backlog", "µs", rows, claims)
