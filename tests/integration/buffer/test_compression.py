"""A backlog of batches is compressed."""

from __future__ import annotations

import json

import pytest

from batches import hold, ids, message
from celery_segment.errors import BufferFull
from support import allow, let_pass


class TestCompression:
    @pytest.fixture
    def backlog(self, make_buffer):
        """A buffer with a hundred ready batches of ten messages."""
        buffer = make_buffer(segment_max_batch_messages=10, segment_max_inflight=1000)
        buffer.admin.pause()
        buffer.append_many([message(n, padding=100) for n in range(1000)])
        buffer.admin.mark()
        return buffer

    def compressed(self, redis):
        keys = redis.keys("{segment:default}:batch:*")
        return {int(k.rsplit(b":", 1)[1]) for k in keys if redis.get(k).startswith(b"\x1f")}

    def compress_all(self, buffer):
        while batches := buffer.compressible():
            for batch in batches:
                buffer.compress(batch)

    def test_a_backlog_is_compressed_but_for_the_youngest(self, backlog, redis):
        batches = redis.keys("{segment:default}:batch:*")
        before = sum(map(redis.memory_usage, batches))
        self.compress_all(backlog)
        assert self.compressed(redis) == set(range(1, 81))
        figures = backlog.admin.snapshot()
        assert figures.ready.bytes - figures.saved_bytes == sum(
            redis.strlen(k) for k in redis.keys("{segment:default}:batch:*")
        )
        assert sum(map(redis.memory_usage, batches)) < before / 2
        assert backlog.compressible() == []

    def test_what_comes_later_is_compressed_later(self, backlog, redis):
        self.compress_all(backlog)
        backlog.append_many([message(n) for n in range(1000, 1200)])
        backlog.admin.mark()
        assert backlog.compressible() == [str(n) for n in range(81, 101)]
        self.compress_all(backlog)
        assert self.compressed(redis) == set(range(1, 101))

    def test_a_drain_that_lags_behind_another_does_not_have_them_looked_at_again(self, backlog):
        self.compress_all(backlog)
        assert not backlog.compress("5")
        assert backlog.compressible() == []

    def test_a_few_batches_are_left_alone(self, make_buffer):
        buffer = make_buffer(segment_max_batch_messages=1)
        buffer.append_many([message(n) for n in range(49)])
        buffer.admin.mark()
        assert buffer.compressible() == []
        buffer.admin.pause()
        assert not buffer.due(20.0)

    def test_a_tick_calls_for_it_even_when_the_source_is_closed(self, backlog, redis):
        assert backlog.due(20.0)
        self.compress_all(backlog)
        backlog.reap()
        let_pass(redis, 20)
        assert not backlog.due(20.0)

    def test_it_is_read_split_buried_and_delivered_all_the_same(self, backlog):
        self.compress_all(backlog)
        backlog.admin.resume()
        allow(backlog, 9)
        claimed = backlog.claim(3)
        one, two, three = (hold(backlog, b.id, f"t{b.id}") for b in claimed)
        assert [i for held in (one, two) for i in ids(held)] == [f"m{n}" for n in range(20)]
        backlog.ack(one)
        backlog.split(two)
        backlog.bury(three, "400", answered=True)
        assert [json.loads(m)["messageId"] for m in backlog.admin.messages("3")] == [
            f"m{n}" for n in range(20, 30)
        ]
        halves = backlog.claim(2)
        assert [ids(hold(backlog, b.id)) for b in halves] == [
            [f"m{n}" for n in range(10, 15)],
            [f"m{n}" for n in range(15, 20)],
        ]
        assert backlog.admin.replay(["3"]) == 10

    def test_it_makes_room_below_the_bound(self, make_buffer):
        buffer = make_buffer(segment_max_buffer_bytes=150_000, segment_max_batch_messages=5)
        buffer.admin.pause()
        with pytest.raises(BufferFull):
            for number in range(10_000):
                buffer.append(message(number, padding=200))
        accepted = buffer.admin.snapshot().accepted
        self.compress_all(buffer)
        buffer.append_many([message(n, padding=200) for n in range(100)])
        assert buffer.admin.snapshot().accepted == accepted + 100

    def test_a_batch_that_was_taken_meanwhile_stays_as_it_is(self, backlog, redis):
        backlog.admin.resume()
        claimed = [batch.id for batch in backlog.claim(2)]
        assert [backlog.compress(batch) for batch in (*claimed, "999")] == [False] * 3
        assert self.compressed(redis) == set()
