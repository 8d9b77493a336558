"""Messages are appended, and batches are sealed."""

from __future__ import annotations

import random

import pytest

from batches import hold, ids, message
from celery_segment.buffer import ENVELOPE, most_messages
from celery_segment.errors import BufferFull
from support import allow


class TestAppend:
    def test_messages_keep_their_order_and_bytes(self, buffer):
        for number in range(5):
            buffer.append(message(number, padding=number))
        assert hold(buffer).body == b"".join(message(n, padding=n) + b"," for n in range(5))

    @pytest.mark.parametrize("padding", [0, 1, 1000, 15_000])
    def test_no_body_exceeds_the_limit_and_each_is_filled(self, make_buffer, padding):
        buffer = make_buffer(segment_max_batch_bytes=33_000, segment_max_inflight=1000)
        size = len(message(9, padding)) + 1
        for _ in range(100_000 // size + 2):
            buffer.append(message(9, padding))
        allow(buffer, 1_000)
        batches = buffer.claim(1000)
        room = 33_000 - len(b"".join(ENVELOPE))
        for batch in batches[:-1]:
            assert room - size < batch.size - 1 <= room
        assert len(batches) >= 3

    def test_a_body_may_have_exactly_the_limit(self, make_buffer):
        limit = 33_000
        buffer = make_buffer(segment_max_batch_bytes=limit)
        room = limit - len(b"".join(ENVELOPE))
        first = b'"' + b"a" * 999 + b'"'
        buffer.append(first)
        buffer.append(b'"' + b"b" * (room - len(first) - 1 - 2) + b'"')
        assert buffer.admin.snapshot().ready.batches == 0
        buffer.append(b"1")
        assert buffer.admin.snapshot().ready.batches == 1
        assert len(hold(buffer).body) - 1 == room

    def test_no_batch_has_more_messages_than_allowed(self, make_buffer):
        buffer = make_buffer(segment_max_batch_messages=7)
        for number in range(20):
            buffer.append(message(number))
        allow(buffer, 9)
        assert [b.count for b in buffer.claim(9)] == [7, 7, 6]

    def test_many_messages_travel_together(self, make_buffer, redis):
        buffer = make_buffer(segment_max_batch_messages=300)
        buffer.append(message(0))
        before = redis.info("commandstats")["cmdstat_evalsha"]["calls"]
        buffer.append_many([message(n) for n in range(1, 1200)])
        assert redis.info("commandstats")["cmdstat_evalsha"]["calls"] == before + 3
        allow(buffer, 9)
        batches = buffer.claim(9)
        assert [b.count for b in batches] == [300, 300, 300, 300]
        got = [i for b in batches for i in ids(hold(buffer, b.id))]
        assert got == [f"m{n}" for n in range(1200)]

    @pytest.mark.parametrize(("bound", "parts"), [(100_000, 0), (500_000, 1), (900_000, 2)])
    def test_where_it_is_full_the_error_says_how_many_are_stored(self, make_buffer, bound, parts):
        buffer = make_buffer(segment_max_buffer_bytes=bound, segment_max_batch_messages=10)
        most = most_messages(10)
        messages = [message(n, padding=1_000) for n in range(3 * most)]
        buffer.append(messages[0])
        with pytest.raises(BufferFull, match="segment_max_buffer_bytes") as info:
            buffer.append_many(messages)
        assert info.value.stored == parts * most
        assert buffer.admin.snapshot().accepted == 1 + parts * most
        told = f"; the first {parts * most:,} of {3 * most:,} messages are stored"
        assert (told in str(info.value)) == (parts > 0)

    def test_the_bound_of_the_buffer_may_be_reached(self, make_buffer):
        buffer = make_buffer(segment_max_buffer_bytes=100_000, segment_max_batch_messages=10)
        content = b'"' + b"x" * 997 + b'"'  # and a comma
        for _ in range(100):
            buffer.append(content)
        with pytest.raises(BufferFull, match="segment_max_buffer_bytes"):
            buffer.append(b"1")
        buffer.ack(hold(buffer))
        buffer.append_many([content] * 10)
        with pytest.raises(BufferFull, match="segment_max_buffer_bytes"):
            buffer.append(b"1")

    @pytest.mark.parametrize("seed", range(5))
    def test_many_at_once_make_the_batches_that_one_by_one_make(self, make_buffer, redis, seed):
        chance = random.Random(seed)
        sizes = [chance.choice([0, 10, 500, 7_000, 15_000]) for _ in range(1_200)]
        messages = [message(n, padding) for n, padding in enumerate(sizes)]
        limits = {"segment_max_batch_bytes": 50_000, "segment_max_batch_messages": 9}
        buffer = make_buffer(segment_max_inflight=1_000, **limits)

        def batches_of(append, parts):
            for part in parts:
                append(part)
            allow(buffer, 1_000)
            claimed = buffer.claim(1_000)
            bodies = [buffer.admin.messages(batch.id) for batch in claimed]
            assert [batch.count for batch in claimed] == [len(body) for body in bodies]
            return bodies

        one_by_one = batches_of(buffer.append, messages)
        redis.flushall()
        rest, parts = list(messages), []
        while rest:
            cut = chance.randrange(1, 700)
            parts, rest = [*parts, rest[:cut]], rest[cut:]
        assert batches_of(buffer.append_many, parts) == one_by_one

    def test_a_sealed_batch_takes_no_more_memory_than_its_bytes(self, make_buffer, redis):
        buffer = make_buffer()
        for number in range(3000):
            buffer.append(message(number, padding=100))
        key = "{segment:default}:batch:1"
        assert redis.memory_usage(key) <= 1.05 * redis.strlen(key)
