"""What a waiting event takes of Redis' memory."""

from __future__ import annotations

import json

from benchmarks.children import Contestant
from benchmarks.events import EVENT, PROPERTIES, USER
from benchmarks.figures import Claim, Figure, Row
from benchmarks.ours import application
from celery_segment import Analytics, track
from celery_segment.buffer import Buffer, buffer_of
from celery_segment.testing import EmbeddedRedis

OURS, CELERY = "celery-segment's buffer", "Celery's list in the broker"
PACKED = "celery-segment's buffer, a backlog that was packed"


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
        buffer_of(app).mark()
        stats = Analytics().stats()
        json_bytes = stats.ready_bytes - stats.ready  # less the commas
        ratios[OURS] = (client.info("memory")["used_memory"] - before) / json_bytes
        _pack(buffer_of(app))
        ratios[PACKED] = (client.info("memory")["used_memory"] - before) / json_bytes
        app.close()
    each = json_bytes / stats.ready
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
        "Redis memory per waiting event / its JSON bytes",
        "bytes per byte",
        [Row(name, [ratio]) for name, ratio in ratios.items()],
        [
            Claim("memory per event / its JSON bytes", ratios[OURS], 1.05),
            Claim(f"… of a backlog of {number:,}, packed", ratios[PACKED], 0.30),
        ],
        [f"{number:,} events of {each:.0f} bytes"],
    )


def _pack(buffer: Buffer) -> None:
    """Do what the workers' drains do while a source is closed."""
    while batches := buffer.packable():
        for batch in batches:
            buffer.pack(batch)
