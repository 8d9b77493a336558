"""Measure the import of a file of events, and a loop over it with Segment's own library."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.children import Contestant
from benchmarks.events import EVENT, PROPERTIES, USER
from benchmarks.figures import Claim, Figure, Row
from celery_segment.testing import EmbeddedRedis

OURS, THEIRS = (
    "celery-segment's import, stored in Redis",
    "segment-analytics-python's loop, in memory",
)
GOAL = 5.0


def measure(*, quick: bool) -> Figure:
    rounds, events = (5, 20_000) if quick else (15, 100_000)
    with TemporaryDirectory() as folder, EmbeddedRedis(appendonly=False) as redis:
        path = Path(folder) / "events.ndjson"
        write(path, events)
        at = {"redis_url": redis.url, "path": str(path)}
        with (
            redis.client() as client,
            Contestant(OURS, "benchmarks.ours", {"kind": "file", **at}) as ours,
            Contestant(
                THEIRS, "benchmarks.peers.official", {"kind": "file", "path": str(path)}, peer=True
            ) as theirs,
        ):
            found: dict[str, list[float]] = {OURS: [], THEIRS: []}
            for _ in range(rounds):
                for each in (ours, theirs):
                    taken = each.round(events)
                    found[each.name].append(taken["cpu"] / taken["events"] * 1e6)
                client.flushall()
    rows = [Row(name, values) for name, values in found.items()]
    ratio = median(a / b for a, b in zip(found[THEIRS], found[OURS], strict=True))
    claims = [Claim("the loop / the import", ratio, GOAL, at_least=True)]
    return Figure("CPU time per imported event", "µs", rows, claims)


def write(path: Path, events: int) -> None:
    began = datetime(2025, 3, 1, 7, tzinfo=timezone.utc)
    with path.open("w") as stream:
        for n in range(events):
            when = began + timedelta(milliseconds=n)
            event = {
                "type": "track",
                "userId": USER,
                "event": EVENT,
                "properties": PROPERTIES,
                "timestamp": f"{when:%Y-%m-%dT%H:%M:%S}.{when.microsecond // 1000:03}Z",
                "messageId": f"bench-{n:032}",
            }
            stream.write(json.dumps(event) + "\n")
