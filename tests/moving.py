"""A source that was renamed: applications before and after, and what it holds."""

from __future__ import annotations

import json
from collections import Counter

from celery_segment import Analytics
from celery_segment.operations.moving import rename
from support import WRITE_KEY, buffer_of

BEFORE = {"segment_sources": {"old": {"write_key": WRITE_KEY}, "new": {"write_key": WRITE_KEY}}}
AFTER = {"segment_sources": {"new": {"write_key": WRITE_KEY}}}


def message(number: int) -> bytes:
    return json.dumps({"messageId": f"m{number}", "type": "track"}).encode()


def fill(app, first: int, count: int, source="old") -> None:
    """Store numbered messages."""
    buffer_of(app, source).append_many([message(n) for n in range(first, first + count)])


def move(app, timeout=0.0, old="old", new="new"):
    """Move once, and return the move."""
    made = rename(app, old, new)
    made.run(timeout)
    return made


def stats(app, source="new"):
    return Analytics(source, app=app).stats()


def assert_grouped(redis, tag: str, messages: int) -> None:
    """Hold the groups of dead letters, each of which has some, to their records."""
    fields = {k.decode(): v for k, v in redis.hgetall(f"{tag}:groups").items()}
    counts: Counter[str] = Counter()
    letters: dict[str, set[bytes]] = {}
    for batch in redis.zrange(f"{tag}:dead", 0, -1):
        record = redis.hget(f"{tag}:meta:{batch.decode()}", "kinds").decode().split()
        for count, group in zip(record[1::3], record[2::3], strict=True):
            counts[group] += int(count)
            letters.setdefault(group, set()).add(batch)
        assert not [f for f in redis.hkeys(f"{tag}:meta:{batch.decode()}") if b"title" in f]
    assert counts.total() == messages
    assert {
        n.decode(): v for n, v in redis.zrange(f"{tag}:grouped", 0, -1, withscores=True)
    } == counts
    assert {n: {*redis.zrange(f"{tag}:dead:{n}", 0, -1)} for n in letters} == letters
    assert len(redis.keys(f"{tag}:dead:*")) == len(letters)
    assert all(json.loads(fields[group])["reason"] for group in letters)


def assert_accounted(redis, source: str) -> None:
    """Recount a source's messages from its keys, and hold its figures to them."""
    tag = f"{{segment:{source}}}"
    figures = {k.decode(): int(v) for k, v in redis.hgetall(f"{tag}:stats").items()}
    moving = (redis.hget(f"{tag}:state", "moving") or b"").decode().split()
    for name, sets in {
        "ready": ["ready"],
        "inflight": ["inflight", "retrying"],
        "dead": ["dead"],
    }.items():
        ids = [i.decode() for each in sets for i in redis.zrange(f"{tag}:{each}", 0, -1)]
        ids += moving[2:] if moving[1:2] == [name] else []
        counts = [int(redis.hget(f"{tag}:meta:{i}", "count")) for i in ids]
        assert figures.get(name, 0) == sum(counts), (source, name)
        if name == "dead":
            aside = sum(counts[-1:]) if moving[1:2] == [name] else 0
            assert_grouped(redis, tag, sum(counts) - aside)
    settled = sum(figures.get(name, 0) for name in ("delivered", "purged", "damaged"))
    stored = sum(figures.get(name, 0) for name in ("ready", "inflight", "dead"))
    assert figures.get("accepted", 0) == stored + settled, source
