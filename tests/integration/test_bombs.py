"""What somebody has put into a batch's place is neither read nor unpacked without a bound."""

from __future__ import annotations

import tracemalloc

import pytest

from celery_segment import Analytics, track
from celery_segment.buffer import ENVELOPE
from celery_segment.buffer.body import compressed
from celery_segment.delivery.attempt import attempt_delivery
from support import buffer_of

BATCH, META = "{segment:default}:batch:1", "{segment:default}:meta:1"
LARGE = 30_000_000


@pytest.fixture
def claimed(make_app, redis):
    """Store and claim a batch of one message, for a source whose batches are sent unpacked."""
    app = make_app(segment_gzip=False)
    track.delay("u", "E")
    (batch,) = buffer_of(app).claim(1)
    assert redis.exists(BATCH, META) == 2
    return buffer_of(app), batch.id


def bomb(size):
    """Return a compressed batch that says it has so many bytes, and has many more."""
    made = compressed(b"a" * LARGE + b",")
    inner = size - 1 + len(ENVELOPE[0])
    return made[:5] + inner.to_bytes(4, "little") + made[9:]


def large(_):
    return b"a" * LARGE + b","


@pytest.mark.parametrize("make", [bomb, large])
@pytest.mark.parametrize("told", [100, LARGE + 1])
def test_it_is_settled_as_damaged(claimed, redis, server, make, told):
    buffer, batch = claimed
    redis.hset(META, "bytes", told)
    redis.set(BATCH, make(told))
    tracemalloc.start()
    try:
        report = attempt_delivery(buffer, batch)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "damaged" in report.text
    assert most < 5_000_000
    assert server.requests == []
    assert Analytics().stats().damaged == 1
    assert not redis.exists(BATCH)
