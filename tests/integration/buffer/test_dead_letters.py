"""Batches are split and buried; dead letters are bounded, listed, replayed and purged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from batches import hold, ids, message
from celery_segment.buffer import DeadLettersFull, Stale
from support import allow, buffer_of


class TestSplitAndBury:
    def test_halves_take_their_parents_place(self, make_buffer):
        buffer = make_buffer(segment_max_batch_messages=5)
        for number in range(10):
            buffer.append(message(number, padding=number))
        allow(buffer, 9)
        held = hold(buffer)
        buffer.split(held)
        left, right, other = buffer.claim(9)
        assert [left.id, right.id, other.id] == ["1.1", "1.2", "2"]
        assert ids(hold(buffer, left.id)) == ["m0", "m1"]
        assert ids(hold(buffer, right.id)) == ["m2", "m3", "m4"]
        assert buffer.admin.snapshot().splits == 1

    def test_dead_letters_are_listed_replayed_and_purged(self, make_buffer):
        buffer = make_buffer(segment_max_batch_messages=1)
        for number in range(3):
            buffer.append(message(number))
        allow(buffer, 9)
        for batch in buffer.claim(3):
            buffer.bury(hold(buffer, batch.id), f"400 of {batch.id}", answered=True)
        letters = buffer.admin.dead_letters()
        assert [(d.id, d.messages, d.reason) for d in letters] == [
            ("1", 1, "400 of 1"),
            ("2", 1, "400 of 2"),
            ("3", 1, "400 of 3"),
        ]
        assert buffer.admin.replay(["1", "nonsense"]) == 1
        assert buffer.admin.replay(["1"]) == 0
        assert buffer.admin.purge(["2"]) == 1
        assert buffer.admin.purge(["2"]) == 0
        assert [d.id for d in buffer.admin.dead_letters()] == ["3"]
        held = hold(buffer)
        assert (held.id, held.attempts, held.requests) == ("1", 0, 0)
        assert (buffer.admin.snapshot().dead.messages, buffer.admin.snapshot().purged) == (1, 1)


class TestDeadLettersBound:
    def test_what_does_not_fit_is_refused_and_nothing_changes(self, make_buffer, redis):
        buffer = make_buffer(segment_max_dead_bytes=1_000_000)
        buffer.append_many([message(n, padding=15_000) for n in range(80)])
        allow(buffer, 9)
        first, second, over, *_ = [hold(buffer, batch.id) for batch in buffer.claim(9)]
        buffer.bury(first, "400", answered=True)
        buffer.bury(second, "400", answered=True)
        redis.set("{segment:default}:probe", over.id)
        redis.hset("{segment:default}:state", mapping={"failures": 3, "trips": 1})
        before = everything(redis)
        for answered in (True, False):
            with pytest.raises(DeadLettersFull):
                buffer.bury(over, "400", answered=answered)
        assert everything(redis) == before
        # It is held as before, and kept until there is room.
        buffer.retry(over, "refused", 0, "full", breaker=(1, 300, 300))
        assert buffer.admin.purge([first.id]) == first.count
        buffer.admin.resume()
        buffer.bury(hold(buffer, token="t2"), "400", answered=True)
        assert [letter.id for letter in buffer.admin.dead_letters()] == [second.id, over.id]

    def test_a_stale_holder_is_refused_as_stale_when_they_are_full(self, make_buffer):
        buffer = make_buffer(segment_max_dead_bytes=1_000_000)
        buffer.append_many([message(n, padding=15_000) for n in range(80)])
        allow(buffer, 9)
        *dead, stale = [hold(buffer, b.id) for b in buffer.claim(3)]
        for held in dead:
            buffer.bury(held, "400", answered=True)
        with pytest.raises(Stale):
            buffer.bury(replace(stale, token="another"), "400", answered=True)

    def test_the_bound_itself_may_be_reached(self, make_buffer):
        buffer = make_buffer(
            segment_max_dead_bytes=1_000_000, segment_max_batch_messages=1, segment_max_inflight=50
        )
        content = b'"' + b"x" * (1_000_000 // 40 - 3) + b'"'  # and a comma
        buffer.append_many([content] * 41)
        allow(buffer, 50)
        *fit, over = [hold(buffer, b.id) for b in buffer.claim(50)]
        for held in fit:
            buffer.bury(held, "400", answered=True)
        assert buffer.admin.snapshot().dead.bytes == 1_000_000
        with pytest.raises(DeadLettersFull):
            buffer.bury(over, "400", answered=True)

    def test_an_empty_store_takes_any_batch(self, make_buffer):
        buffer = make_buffer(segment_max_dead_bytes=1_000_000)
        buffer.append_many([message(n, padding=15_000) for n in range(40)])
        first = hold(buffer)
        assert first.size > 430_000
        buffer.bury(first, "400", answered=True)


def everything(redis):
    """All that the server holds, but for what runs out by itself."""
    return {key: redis.dump(key) for key in redis.keys("*")}


class TestDeadLettersPages:
    #: In the order of their bytes, which Redis keeps among equals.
    IDS = ("10", "100", "7", "7.1", "7.1.2", "7.10", "7.2", "71", "8", "9.1")

    @pytest.fixture
    def dead(self, make_app, redis):
        """Ten dead letters of one millisecond, and five later ones."""
        buffer = buffer_of(make_app())
        tag = "{segment:default}"
        at = dict.fromkeys(self.IDS, 5_000) | {f"2{n}": 6_000 + n for n in range(5)}
        for batch, when in at.items():
            redis.zadd(f"{tag}:dead", {batch: when})
            about = {"count": 1, "bytes": 2, "buried": when, "cause": "x"}
            redis.hset(f"{tag}:meta:{batch}", mapping=about)
        return buffer

    @pytest.mark.parametrize("limit", [1, 2, 3, 7, 10, 14, 15, 16])
    def test_pages_join(self, dead, limit):
        found, last = [], None
        while page := dead.admin.dead_letters(last, limit=limit):
            assert len(page) <= limit
            found += [letter.id for letter in page]
            last = page[-1]
        assert found == [*self.IDS, "20", "21", "22", "23", "24"]

    @pytest.mark.parametrize("gone", range(10))
    def test_a_page_passes_none_over_when_the_last_is_gone(self, dead, redis, gone):
        page = dead.admin.dead_letters(limit=gone + 1)
        redis.zrem("{segment:default}:dead", *self.IDS[: gone + 1])
        rest = [letter.id for letter in dead.admin.dead_letters(page[-1])]
        assert rest == [*self.IDS[gone + 1 :], "20", "21", "22", "23", "24"]

    def test_times_bound_it_the_first_one_included(self, dead):
        def between(since, until):
            return [letter.id for letter in dead.admin.dead_letters(since=since, until=until)]

        assert between(5.001, None) == ["20", "21", "22", "23", "24"]
        assert between(6.001, 6.003) == ["21", "22"]
        assert between(None, 6.0) == [*self.IDS]
        assert between(6.004, None) == ["24"]
        assert between(6.005, None) == []
        assert dead.admin.last_buried() == 6.004
