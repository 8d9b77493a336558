"""Measure the memory of Redis per waiting event."""

from __future__ import annotations

import json

from benchmarks.children import Contestant
from benchmarks.events import EVENT, PROPERTIES, USER
from benchmarks.figures import Claim, Figure, Row
from benchmarks.ours import application
from celery_segment import Analytics, track
from celery_segment.buffer import Buffer
from celery_segment.runtime import runtime_of
from celery_segment.testing import EmbeddedRedis

OURS, CELERY = "celery-segment's buffer", "Celery's list in the broker"
COMPRESSED = "celery-segment's buffer, compressed backlog"


def measure(*, quick: bool) -> Figure:
    number = 200_000 if quick else 1_000_000
    ratios: dict[str, float] = {}
    with EmbeddedRedis(appendonly=False) as redis, redis.client() as client:
        app = application(redis.url)
        track.delay(USER, EVENT, PROPERTIES)
        Analytics().pause()
        before = client.info("memory")["used_memory"]
        for _ in range(number // 1_000):
            with Analytics().batch():
                for _ in range(1_000):
                    track.delay(USER, EVENT, PROPERTIES)
        runtime_of(app).buffer("default").admin.mark()
        stats = Analytics().stats()
        json_bytes = stats.ready.bytes - stats.ready.messages  # without the commas
        ratios[OURS] = (client.info("memory")["used_memory"] - before) / json_bytes
        _compress(runtime_of(app).buffer("default"))
        ratios[COMPRESSED] = (client.info("memory")["used_memory"] - before) / json_bytes
        app.close()
    each = json_bytes / stats.ready.messages
    with EmbeddedRedis(appendonly=False) as redis, redis.client() as client:
        settings = {"redis_url": redis.url}
        with Contestant(CELERY, "benchmarks.peers.plain_celery", settings, peer=True) as celery:
            before, waiting = client.info("memory")["used_memory"], client.llen("celery")
            celery.round(10_000)
            grown = client.info("memory")["used_memory"] - before
            message = json.loads(client.lindex("celery", 0))
            assert "body" in message
            ratios[CELERY] = grown / ((client.llen("celery") - waiting) * each)
    return Figure(
        "Redis memory per waiting event / its size as JSON",
        "bytes per byte",
        [Row(name, [ratio]) for name, ratio in ratios.items()],
        [
            Claim("memory per event / its size as JSON", ratios[OURS], 1.05),
            Claim(f"… of a backlog of {number:,}, compressed", ratios[COMPRESSED], 0.30),
        ],
        [f"{number:,} events of {each:.0f} bytes"],
    )


def _compress(buffer: Buffer) -> None:
    """Compress the ready batches, as the workers do while a source is closed."""
    while batches := buffer.compressible():
        for batch in batches:
            buffer.compress(batch)
