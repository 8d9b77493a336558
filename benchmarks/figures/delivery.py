"""Measure the CPU time of a whole worker per delivered event."""

from __future__ import annotations

from contextlib import ExitStack
from statistics import median
from typing import Any

from benchmarks.children import Contestant
from benchmarks.events import EVENT, PROPERTIES, USER
from benchmarks.figures import Claim, Figure, Row
from benchmarks.ours import application
from benchmarks.workers import Worker
from celery_segment import Analytics, track
from celery_segment.runtime import runtime_of
from celery_segment.testing import EmbeddedRedis, SegmentServer

OURS, LIBRARY = "celery-segment's worker", "segment-analytics-python's consumer, gzip"
WARM_UP = 2_000
EACH, BARE = "a Celery task per event, requests", "a bare loop of GET, gzip, POST"


def measure(*, quick: bool) -> Figure:
    rounds = 3 if quick else 7
    sizes = {OURS: 500_000, BARE: 200_000, LIBRARY: 10_000, EACH: 1_000}
    found: dict[str, list[float]] = {name: [] for name in sizes}
    with ExitStack() as stack:
        redis = stack.enter_context(EmbeddedRedis(appendonly=False))
        server = stack.enter_context(SegmentServer(record="ids"))
        app = application(redis.url, segment_host=server.url, segment_write_key="key")
        environ = {"SEGMENT_BENCH_REDIS": redis.url, "SEGMENT_BENCH_HOST": server.url}
        library = Contestant(
            LIBRARY,
            "benchmarks.peers.official",
            {"kind": "consume", "host": server.url},
            peer=True,
        )
        bare = Contestant(
            BARE, "benchmarks.bare_loop", {"redis_url": redis.url, "host": server.url}
        )
        per_event = Contestant(
            EACH, "benchmarks.peers.per_event", {"redis_url": redis.url}, peer=True
        )
        for each in (library, bare, per_event):
            stack.enter_context(each)
        per = {
            OURS: lambda n: worker_cpu(app, environ, server, n),
            BARE: lambda n: bare_cpu(app, redis, bare, n),
            LIBRARY: lambda n: library.round(n)["cpu"],
            EACH: lambda n: per_event_cpu(per_event, environ, server, n),
        }
        for _ in range(rounds):
            for name, run in per.items():
                found[name].append(sizes[name] / run(sizes[name]))
    rows = [Row(name, values) for name, values in found.items()]
    return Figure(
        "Events of a backlog at rest delivered per CPU second",
        "events/s",
        rows,
        _claims(found),
        more_is_better=True,
    )


def _claims(found: dict[str, list[float]]) -> list[Claim]:
    def ratio(name: str) -> float:
        return median(a / b for a, b in zip(found[OURS], found[name], strict=True))

    return [
        Claim("events per CPU second / the library's", ratio(LIBRARY), 15, at_least=True),
        Claim("… / a task per event", ratio(EACH), 500, at_least=True),
        Claim("… / the bare loop", ratio(BARE), 0.5, at_least=True),
    ]


def fill(app: Any, number: int) -> Analytics:
    """Pause the source, and store ``number`` events."""
    analytics = Analytics(app=app)
    analytics.pause()
    for _ in range(number // 1_000):
        with analytics.batch():
            for _ in range(1_000):
                track.delay(USER, EVENT, PROPERTIES)
    runtime_of(app).buffer("default").admin.mark()
    return analytics


def worker_cpu(app: Any, environ: dict[str, str], server: SegmentServer, number: int) -> float:
    """Deliver ``number`` events by a real worker; return the CPU seconds of all its processes."""
    with Worker("benchmarks.workerapp", environ) as worker:
        for events in (WARM_UP, number):  # the first delivery of a process loads the HTTP client
            server.clear()
            analytics = fill(app, events)
            worker.wait_until_idle()
            before = worker.cpu()
            analytics.resume()
            if analytics.flush(120) or len(server.received) != events:
                raise RuntimeError("not all were delivered")
        return worker.cpu() - before


def per_event_cpu(
    filler: Contestant, environ: dict[str, str], server: SegmentServer, number: int
) -> float:
    """Return the same for a worker that runs a task per event."""
    with Worker("benchmarks.peers.plain_celery", environ, peer=True) as worker:
        for events in (WARM_UP // 100, number):
            server.clear()
            worker.wait_until_idle()
            before = worker.cpu()
            filler.round(events)
            if not server.wait_for(lambda: len(server.received) >= events, 120):  # noqa: B023
                raise RuntimeError("not all were delivered")
        return worker.cpu() - before


def bare_cpu(app: Any, redis: EmbeddedRedis, bare: Contestant, number: int) -> float:
    """Return the CPU seconds of a bare loop that posts the same batches."""
    fill(app, number)
    seconds: float = bare.round(number)["cpu"]
    with redis.client() as client:
        client.flushall()
    return seconds
