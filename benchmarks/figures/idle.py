"""Measure what an idle worker costs, and how often it asks the Redis of the buffer."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from statistics import median

from benchmarks.figures import Claim, Figure, Row
from benchmarks.proxy import CountingProxy
from benchmarks.workers import DEFAULT, Worker
from celery_segment.testing import EmbeddedRedis

CELERY = "Celery's own worker"
SOURCES = {"celery-segment's worker, 1 source": 1, "celery-segment's worker, 50 sources": 50}
#: Seconds after which a worker has done what it does once.
SETTLED = 5.0


def measure(*, quick: bool) -> Figure:
    rounds, seconds = (2, 6) if quick else (4, 20)
    with ExitStack() as stack:
        workers = {CELERY: _plain(stack)}
        proxies: dict[str, CountingProxy] = {}
        for name, number in SOURCES.items():
            workers[name], proxies[name] = _worker(stack, number)
        for worker in workers.values():
            worker.wait_until_idle()
        time.sleep(SETTLED)
        shares: dict[str, list[float]] = {name: [] for name in workers}
        asked: dict[str, list[float]] = {name: [] for name in proxies}
        for _ in range(rounds):
            cpu = {name: worker.cpu() for name, worker in workers.items()}
            trips = {name: proxy.round_trips for name, proxy in proxies.items()}
            began = time.monotonic()
            time.sleep(seconds)
            wall = time.monotonic() - began
            for name, worker in workers.items():
                shares[name].append((worker.cpu() - cpu[name]) / wall * 100)
            for name, proxy in proxies.items():
                asked[name].append((proxy.round_trips - trips[name]) / wall)
    return _figure(shares, asked)


def _plain(stack: ExitStack) -> Worker:
    redis = stack.enter_context(EmbeddedRedis(appendonly=False))
    environ = {"SEGMENT_BENCH_REDIS": redis.url}
    return stack.enter_context(Worker("benchmarks.plainapp", environ, DEFAULT))


def _worker(stack: ExitStack, sources: int) -> tuple[Worker, CountingProxy]:
    """Start a worker whose buffer has a Redis of its own, behind a proxy."""
    broker, buffer = (stack.enter_context(EmbeddedRedis(appendonly=False)) for _ in range(2))
    proxy = stack.enter_context(CountingProxy(buffer.url))
    more = {f"source-{n}": {"write_key": "key"} for n in range(1, sources)}
    environ = {
        "SEGMENT_BENCH_REDIS": proxy.url,
        "SEGMENT_BENCH_BROKER": broker.url,
        "SEGMENT_BENCH_HOST": "http://127.0.0.1:1",
        "SEGMENT_BENCH_SETTINGS": json.dumps({"segment_sources": more}),
    }
    return stack.enter_context(Worker("benchmarks.workerapp", environ, DEFAULT)), proxy


def _figure(shares: dict[str, list[float]], asked: dict[str, list[float]]) -> Figure:
    rows = [Row(f"{name}, % of a core", values) for name, values in shares.items()]
    rows += [Row(f"{name}, round trips/s", values) for name, values in asked.items()]
    claims = []
    for name, number in SOURCES.items():
        of = f"{number} source{'s' if number > 1 else ''}"
        pairs = zip(shares[name], shares[CELERY], strict=True)
        more = median(ours - plain for ours, plain in pairs)
        claims += [
            Claim(f"{of}: % of a core beyond Celery's own worker", more, 0.3),
            Claim(f"{of}: round trips/s to the buffer", median(asked[name]), 5),
        ]
    return Figure("An idle worker", "", rows, claims)
