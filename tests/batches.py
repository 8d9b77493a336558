"""Messages and batches of a buffer, and a recount of them: for tests/integration/buffer."""

from __future__ import annotations

import json

from celery_segment.buffer import Lease, messages_of

BREAKER = (5, 0.2, 0.4)
#: The sets whose batches the figures count as one.
_PLACES = {"ready": ["ready"], "inflight": ["inflight", "retrying"], "dead": ["dead"]}


def message(number: int, padding: int = 0) -> bytes:
    return json.dumps({"messageId": f"m{number}", "x": "é" * padding}, ensure_ascii=False).encode()


def ids(held: Lease) -> list[str]:
    return [json.loads(bytes(m))["messageId"] for m in messages_of(held.body)]


def assert_conserved(redis, buffer):
    """Recount every message from the keys themselves, and hold the figures to it."""
    tag = "{segment:default}"
    counted, sizes, saved = {}, {}, 0
    for place, keys in _PLACES.items():
        batches = [i.decode() for key in keys for i in redis.zrange(f"{tag}:{key}", 0, -1)]
        counted[place] = sum(len(buffer.admin.messages(i)) for i in batches)
        sizes[place] = 0
        for batch in batches:
            count, size = map(int, redis.hmget(f"{tag}:meta:{batch}", "count", "bytes"))
            messages = buffer.admin.messages(batch)
            assert (count, size) == (len(messages), sum(len(m) + 1 for m in messages))
            sizes[place] += size
            saved += 0 if place == "dead" else size - redis.strlen(f"{tag}:batch:{batch}")
    snapshot = buffer.admin.snapshot()
    content = redis.get(f"{tag}:open") or b""
    assert snapshot.buffered.messages == (len(json.loads(b"[%b]" % content[:-1])) if content else 0)
    assert {place: getattr(snapshot, place).messages for place in counted} == counted
    assert {place: getattr(snapshot, place).bytes for place in sizes} == sizes
    assert snapshot.saved_bytes == saved
    assert snapshot.accepted == snapshot.buffered.messages + sum(counted.values()) + (
        snapshot.delivered.messages + snapshot.purged + snapshot.damaged
    )
    placed = {i for ks in _PLACES.values() for k in ks for i in redis.zrange(f"{tag}:{k}", 0, -1)}
    owned = {k.rsplit(b":", 1)[1] for k in redis.keys(f"{tag}:batch:*")}
    described = {k.rsplit(b":", 1)[1] for k in redis.keys(f"{tag}:meta:*")}
    assert placed == owned == described, "a key without owner"


def claim_one(buffer) -> str:
    (batch,) = buffer.claim(1)
    return batch.id


def hold(buffer, batch_id=None, token="t1") -> Lease:
    held = buffer.begin(batch_id or claim_one(buffer), token)
    assert isinstance(held, Lease)
    return held
