"""What happens to a batch whose content, or record, in Redis is lost or cut off."""

from __future__ import annotations

import pytest

from celery_segment import Analytics, track
from celery_segment.buffer.body import compressed
from support import buffer_of, wait_until

KEY = "{segment:default}"


def delete(redis):
    redis.delete(f"{KEY}:batch:1")


def cut(redis):
    redis.set(f"{KEY}:batch:1", redis.getrange(f"{KEY}:batch:1", 0, 99))


def cut_compressed(redis):
    redis.set(f"{KEY}:batch:1", compressed(redis.get(f"{KEY}:batch:1"))[:-9])


def replace(redis):
    redis.set(f"{KEY}:batch:1", "x")


def lose_all(redis):
    redis.delete(f"{KEY}:batch:1", f"{KEY}:meta:1")


@pytest.fixture
def stored(make_app):
    """Store two batches of five messages, and the ids of the second."""
    app = make_app(segment_max_batch_messages=5)
    with Analytics().batch():
        ids = [track.delay("u", f"E{number}").id for number in range(10)]
    buffer_of(app).admin.mark()
    return app, ids


@pytest.mark.parametrize("harm", [delete, cut, cut_compressed, replace, lose_all])
def test_it_is_counted_and_holds_up_no_other(stored, server, redis, workers, harm):
    app, ids = stored
    harm(redis)
    worker = workers.start(app)
    assert server.wait_for_messages(5, timeout=20)
    wait_until(lambda: "damaged: its content in Redis is lost or cut off" in worker.output)
    wait_until(lambda: Analytics().stats().inflight.batches == 0)
    assert set(server.received) == set(ids[5:])
    assert len(server.requests) == 1, "nothing of it was sent"
    stats = Analytics().stats()
    assert stats.damaged == (0 if harm is lose_all else 5)
    assert stats.dead.messages == 0
    assert stats.gate.state == "open"
    assert not redis.keys(f"{KEY}:*:1")
    assert "batch 1, " in worker.output
    track.delay("u", "later")
    assert server.wait_for_messages(6, timeout=20)


def test_a_record_that_is_lost_is_written_anew(stored, server, redis, workers):
    app, ids = stored
    redis.delete(f"{KEY}:meta:1")
    Analytics().stats()
    workers.start(app)
    assert server.wait_for_messages(10, timeout=20)
    wait_until(lambda: Analytics().stats().waiting == 0)
    assert set(server.received) == set(ids)
    stats = Analytics().stats()
    assert (stats.delivered.messages, stats.damaged) == (10, 0)


def test_one_that_is_garbled_is_not_split_for_ever(stored, server, redis, workers):
    app, ids = stored
    content = bytearray(redis.get(f"{KEY}:batch:1"))
    content[5:15] = b"?" * 10
    redis.set(f"{KEY}:batch:1", bytes(content))
    workers.start(app)
    wait_until(lambda: Analytics().stats().damaged == 5)
    assert server.wait_for_messages(5, timeout=20)
    assert set(server.received) == set(ids[5:])
