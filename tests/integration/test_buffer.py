"""Every transition of the buffer, on a real Redis."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from celery_segment.buffer import (
    Closed,
    DeadLettersFull,
    Gone,
    Lease,
    LeasedElsewhere,
    Stale,
    buffer_of,
    messages_of,
)
from celery_segment.buffer.buffer import ENVELOPE
from celery_segment.errors import BufferFull
from support import let_pass, wait_until

BREAKER = (5, 0.2, 0.4)


def message(number: int, padding: int = 0) -> bytes:
    return json.dumps({"messageId": f"m{number}", "x": "é" * padding}, ensure_ascii=False).encode()


def ids(held: Lease) -> list[str]:
    return [json.loads(bytes(m))["messageId"] for m in messages_of(held.body)]


@pytest.fixture
def make_buffer(make_app, redis):
    def make(**conf):
        buffer = buffer_of(make_app(segment_timeout=0.5, segment_lease=60, **conf))
        made.append(buffer)
        return buffer

    made = []
    yield make
    for buffer in made:
        assert_conserved(redis, buffer)


@pytest.fixture
def buffer(make_buffer):
    return make_buffer()


def assert_conserved(redis, buffer):
    """Recount every message from the keys themselves, and hold the figures to it."""
    tag = "{segment:default}"
    counted = {}
    for place in ("ready", "inflight", "dead"):
        batches = [i.decode() for i in redis.zrange(f"{tag}:{place}", 0, -1)]
        counted[place] = sum(len(buffer.messages(i)) for i in batches)
        for batch in batches:
            assert int(redis.hget(f"{tag}:meta:{batch}", "count")) == len(buffer.messages(batch))
    snapshot = buffer.snapshot()
    content = redis.get(f"{tag}:open") or b""
    assert snapshot.buffered == (len(json.loads(b"[%b]" % content[:-1])) if content else 0)
    assert {place: getattr(snapshot, place) for place in counted} == counted
    assert snapshot.accepted == snapshot.buffered + sum(counted.values()) + (
        snapshot.delivered + snapshot.purged
    )
    placed = {i for p in counted for i in redis.zrange(f"{tag}:{p}", 0, -1)}
    owned = {k.rsplit(b":", 1)[1] for k in redis.keys(f"{tag}:batch:*")}
    described = {k.rsplit(b":", 1)[1] for k in redis.keys(f"{tag}:meta:*")}
    assert placed == owned == described, "a key without owner"


def claim_one(buffer) -> str:
    (batch,) = buffer.claim(1, whatever_waits=True)
    return batch.id


def hold(buffer, batch_id=None, token="t1") -> Lease:
    held = buffer.begin(batch_id or claim_one(buffer), token)
    assert isinstance(held, Lease)
    return held


class TestAppend:
    def test_the_first_message_wakes_a_worker_and_the_second_does_not(self, buffer):
        assert [buffer.append(message(n)) for n in range(3)] == [True, False, False]

    def test_flush_at_messages_wake_once_per_cycle(self, make_buffer):
        buffer = make_buffer(segment_flush_at=5)
        buffer.append(message(0))
        buffer.claim(1, whatever_waits=True)
        woken = [buffer.append(message(n)) for n in range(12)]
        assert [n for n, wake in enumerate(woken, 1) if wake] == [5]
        buffer.claim(1, whatever_waits=True)
        woken = [buffer.append(message(n)) for n in range(12)]
        assert [n for n, wake in enumerate(woken, 1) if wake] == [5]

    def test_flush_at_one_wakes_for_every_cycle(self, make_buffer):
        buffer = make_buffer(segment_flush_at=1)
        for number in range(3):
            assert buffer.append(message(number))
            buffer.claim(1, whatever_waits=True)

    def test_a_wake_is_due_again_once_the_interval_has_passed(self, make_buffer):
        buffer = make_buffer(segment_flush_interval=0.2)
        assert buffer.append(message(0))
        buffer.claim(1, whatever_waits=True)
        wait_until(lambda: buffer.append(message(1)) or buffer.claim(1, whatever_waits=True) == [])

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
        batches = buffer.claim(1000, whatever_waits=True)
        room = 33_000 - len(b"".join(ENVELOPE))
        for batch in batches[:-1]:
            assert room - size < batch.bytes - 1 <= room
        assert len(batches) >= 3

    def test_a_body_may_have_exactly_the_limit(self, make_buffer):
        limit = 33_000
        buffer = make_buffer(segment_max_batch_bytes=limit)
        room = limit - len(b"".join(ENVELOPE))
        first = b'"' + b"a" * 999 + b'"'
        buffer.append(first)
        buffer.append(b'"' + b"b" * (room - len(first) - 1 - 2) + b'"')
        assert buffer.snapshot().ready_batches == 0
        buffer.append(b"1")
        assert buffer.snapshot().ready_batches == 1
        assert len(hold(buffer).body) - 1 == room

    def test_no_batch_has_more_messages_than_allowed(self, make_buffer):
        buffer = make_buffer(segment_max_batch_messages=7)
        for number in range(20):
            buffer.append(message(number))
        assert [b.messages for b in buffer.claim(9, whatever_waits=True)] == [7, 7, 6]

    def test_many_messages_travel_together(self, make_buffer, redis):
        buffer = make_buffer(segment_max_batch_messages=300)
        buffer.append(message(0))
        before = redis.info("commandstats")["cmdstat_evalsha"]["calls"]
        buffer.append_many([message(n) for n in range(1, 1200)])
        assert redis.info("commandstats")["cmdstat_evalsha"]["calls"] == before + 3
        batches = buffer.claim(9, whatever_waits=True)
        assert [b.messages for b in batches] == [300, 300, 300, 300]
        got = [i for b in batches for i in ids(hold(buffer, b.id))]
        assert got == [f"m{n}" for n in range(1200)]

    @pytest.mark.parametrize("seed", range(5))
    def test_many_at_once_make_the_batches_that_one_by_one_make(self, make_buffer, redis, seed):
        chance = random.Random(seed)
        sizes = [chance.choice([0, 10, 500, 7_000, 15_000]) for _ in range(1_200)]
        messages = [message(n, padding) for n, padding in enumerate(sizes)]
        limits = {"segment_max_batch_bytes": 50_000, "segment_max_batch_messages": 9}
        buffer = make_buffer(segment_max_inflight=1_000, **limits)

        def batches_of(append, parts):
            woken = [append(part) for part in parts]
            claimed = buffer.claim(1_000, whatever_waits=True)
            bodies = [buffer.messages(batch.id) for batch in claimed]
            assert [batch.messages for batch in claimed] == [len(body) for body in bodies]
            return woken.count(True), bodies

        one_by_one = batches_of(buffer.append, messages)
        redis.flushall()
        rest, parts = list(messages), []
        while rest:
            cut = chance.randrange(1, 700)
            parts, rest = [*parts, rest[:cut]], rest[cut:]
        woken, bodies = batches_of(buffer.append_many, parts)
        assert bodies == one_by_one[1]
        assert 0 < woken <= one_by_one[0]

    def test_a_sealed_batch_takes_no_more_memory_than_its_bytes(self, make_buffer, redis):
        buffer = make_buffer()
        for number in range(3000):
            buffer.append(message(number, padding=100))
        key = "{segment:default}:batch:1"
        assert redis.memory_usage(key) <= 1.05 * redis.strlen(key)


class TestClaim:
    def test_claims_stay_within_max_inflight(self, make_buffer):
        buffer = make_buffer(segment_max_inflight=3, segment_max_batch_messages=1)
        for number in range(5):
            buffer.append(message(number))
        assert len(buffer.claim(2, whatever_waits=True)) == 2
        assert len(buffer.claim(9, whatever_waits=True)) == 1
        assert buffer.claim(9, whatever_waits=True) == []

    def test_without_need_the_open_batch_is_left_to_fill(self, make_buffer):
        buffer = make_buffer(segment_flush_at=3)
        buffer.append(message(0))
        buffer.append(message(1))
        assert buffer.claim(9, whatever_waits=False) == []
        buffer.append(message(2))
        assert [b.messages for b in buffer.claim(9, whatever_waits=False)] == [3]

    def test_an_old_open_batch_is_due(self, make_buffer):
        buffer = make_buffer(segment_flush_interval=0.1)
        buffer.append(message(0))
        wait_until(lambda: buffer.claim(1, whatever_waits=False))


class TestHolding:
    def test_one_holder_at_a_time(self, buffer):
        buffer.append(message(0))
        batch = claim_one(buffer)
        assert isinstance(buffer.begin(batch, "t1"), Lease)
        assert isinstance(buffer.begin(batch, "t2"), LeasedElsewhere)

    def test_a_settled_batch_is_gone(self, buffer):
        buffer.append(message(0))
        held = hold(buffer)
        buffer.ack(held)
        assert isinstance(buffer.begin(held.id, "t2"), Gone)
        assert buffer.snapshot().delivered == 1

    def test_an_expired_lease_is_taken_over_and_its_holder_refused(self, make_app, redis):
        buffer = buffer_of(make_app(segment_lease=1.0, segment_timeout=0.5))
        buffer.append(message(0))
        stale = hold(buffer)
        assert buffer.reap()[0] == []
        (again,) = wait_until(lambda: buffer.reap()[0])
        assert again.id == stale.id
        for settle in (
            lambda: buffer.ack(stale),
            lambda: buffer.retry(stale, "failure", 0, "x", breaker=BREAKER),
            lambda: buffer.split(stale),
            lambda: buffer.bury(stale, "x", answered=True),
        ):
            with pytest.raises(Stale):
                settle()
        buffer.ack(hold(buffer, stale.id, "t2"))
        assert buffer.snapshot().takeovers == 1
        assert_conserved(redis, buffer)

    def test_a_late_holder_may_settle_while_nobody_took_over(self, make_app):
        buffer = buffer_of(make_app(segment_lease=1.0, segment_timeout=0.5))
        buffer.append(message(0))
        held = hold(buffer)
        wait_until(lambda: isinstance(buffer.begin(held.id, "t2"), Lease))
        with pytest.raises(Stale):
            buffer.ack(held)

    def test_attempts_and_requests_are_counted(self, buffer):
        buffer.append(message(0))
        held = hold(buffer)
        assert (held.attempts, held.requests) == (0, 0)
        buffer.retry(held, "failure", 0, "503", breaker=BREAKER)
        held = hold(buffer, held.id, "t2")
        assert (held.attempts, held.requests) == (1, 1)
        buffer.retry(held, "asked", 0, "429", breaker=BREAKER)
        held = hold(buffer, held.id, "t3")
        assert (held.attempts, held.requests) == (1, 2)
        assert buffer.snapshot().retries == 2


class TestGate:
    def test_a_wait_that_the_endpoint_asks_for_binds_everyone(self, make_buffer):
        buffer = make_buffer(segment_max_batch_messages=1)
        for number in range(3):
            buffer.append(message(number))
        first, second, _ = buffer.claim(3, whatever_waits=True)
        held = hold(buffer, first.id)
        wait, _ = buffer.retry(held, "asked", 0.5, "429 Too Many Requests", breaker=BREAKER)
        assert wait == pytest.approx(0.5, abs=0.01)
        closed = buffer.begin(second.id, "t2")
        assert isinstance(closed, Closed)
        assert 0 < closed.seconds <= 0.5
        assert buffer.claim(9, whatever_waits=True) == []
        assert buffer.snapshot().gate == "429 Too Many Requests"
        assert not buffer.snapshot().refused
        wait_until(lambda: [b.id for b in buffer.claim(9, whatever_waits=True)] == [second.id])

    def test_failures_in_a_row_trip_the_breaker_and_one_probe_reopens_it(self, make_buffer):
        buffer = make_buffer(segment_max_batch_messages=1)
        for number in range(8):
            buffer.append(message(number))
        batches = [hold(buffer, b.id) for b in buffer.claim(7, whatever_waits=True)]
        results = [buffer.retry(h, "failure", 0, "503", breaker=BREAKER) for h in batches]
        assert [trips for _, trips in results] == [0, 0, 0, 0, 1, 0, 0]
        wait_until(lambda: buffer.snapshot().gate == "probing")
        probe = hold(buffer, batches[3].id, "probe")
        assert isinstance(buffer.begin(batches[4].id, "t2"), Closed)
        wait, trips = buffer.retry(probe, "failure", 0, "503", breaker=BREAKER)
        assert (round(wait, 1), trips) == (0.4, 2)
        wait_until(lambda: buffer.snapshot().gate == "probing")
        buffer.ack(hold(buffer, batches[3].id, "probe2"))
        assert isinstance(buffer.begin(batches[5].id, "t2"), Lease)
        assert isinstance(buffer.begin(batches[6].id, "t2"), Lease)

    def test_a_success_between_failures_keeps_the_breaker_closed(self, make_buffer):
        buffer = make_buffer(segment_max_batch_messages=1)
        for number in range(10):
            buffer.append(message(number))
        for number, batch in enumerate(buffer.claim(10, whatever_waits=True)):
            held = hold(buffer, batch.id)
            if number == 4:
                buffer.ack(held)
            else:
                buffer.retry(held, "failure", 0, "503", breaker=BREAKER)
        # Five failures since the success: tripped by the last alone.
        assert buffer.snapshot().gate == "503"

    def test_a_refusal_closes_at_once_and_is_no_attempt(self, buffer):
        buffer.append(message(0))
        held = hold(buffer)
        _, trips = buffer.retry(held, "refused", 0, "401", breaker=(1, 0.2, 0.4))
        assert trips == 1
        wait_until(lambda: buffer.snapshot().gate == "probing")
        assert hold(buffer, held.id, "t2").attempts == 0

    def test_the_pauses_of_one_kind_do_not_lengthen_the_others(self, buffer, redis):
        buffer.append(message(0))
        batch, hour, found = claim_one(buffer), 3600.0, []
        for what in ("failure", "failure", "failure", "refused", "refused"):
            held = hold(buffer, batch, f"t{len(found)}")
            wait, trips = buffer.retry(held, what, 0, "503", breaker=(1, hour, 24 * hour))
            found.append((round(wait / hour), trips))
            let_pass(redis, wait + 1)
        assert found == [(1, 1), (2, 2), (4, 3), (1, 1), (2, 2)]

    def test_pause_and_resume(self, buffer):
        buffer.append(message(0))
        assert buffer.pause()
        assert not buffer.pause()
        assert buffer.claim(1, whatever_waits=True) == []
        assert buffer.snapshot().gate == "paused"
        buffer.append(message(1))
        assert buffer.resume() == 0
        assert [b.messages for b in buffer.claim(1, whatever_waits=True)] == [2]

    def test_a_batch_claimed_before_the_pause_is_put_back(self, buffer):
        buffer.append(message(0))
        batch = claim_one(buffer)
        buffer.pause()
        assert buffer.begin(batch, "t1") == Closed(None)
        assert buffer.snapshot().ready == 1

    def test_resume_keeps_the_wait_that_the_endpoint_asked_for(self, buffer):
        buffer.append(message(0))
        buffer.retry(hold(buffer), "asked", 30, "429", breaker=BREAKER)
        buffer.pause()
        assert 29 < buffer.resume() <= 30
        assert buffer.snapshot().closed > 29

    def test_resume_forgets_the_pause_of_a_failing_endpoint(self, buffer):
        buffer.append(message(0))
        held = hold(buffer)
        buffer.retry(held, "refused", 0, "401", breaker=(1, 300, 300))
        assert buffer.snapshot().refused
        assert buffer.resume() == 0
        assert not buffer.snapshot().refused
        assert [b.id for b in buffer.reap()[0]] == [held.id]
        assert isinstance(buffer.begin(held.id, "t2"), Lease)


class TestSplitAndBury:
    def test_halves_take_their_parents_place(self, make_buffer):
        buffer = make_buffer(segment_max_batch_messages=5)
        for number in range(10):
            buffer.append(message(number, padding=number))
        held = hold(buffer)
        buffer.split(held)
        left, right, other = buffer.claim(9, whatever_waits=True)
        assert [left.id, right.id, other.id] == ["1.1", "1.2", "2"]
        assert ids(hold(buffer, left.id)) == ["m0", "m1"]
        assert ids(hold(buffer, right.id)) == ["m2", "m3", "m4"]
        assert buffer.snapshot().splits == 1

    def test_dead_letters_are_listed_replayed_and_purged(self, make_buffer):
        buffer = make_buffer(segment_max_batch_messages=1)
        for number in range(3):
            buffer.append(message(number))
        for batch in buffer.claim(3, whatever_waits=True):
            buffer.bury(hold(buffer, batch.id), f"400 of {batch.id}", answered=True)
        letters = buffer.dead_letters()
        assert [(d.id, d.messages, d.reason) for d in letters] == [
            ("1", 1, "400 of 1"),
            ("2", 1, "400 of 2"),
            ("3", 1, "400 of 3"),
        ]
        assert buffer.replay(["1", "nonsense"]) == 1
        assert buffer.replay(["1"]) == 0
        assert buffer.purge(["2"]) == 1
        assert buffer.purge(["2"]) == 0
        assert [d.id for d in buffer.dead_letters()] == ["3"]
        held = hold(buffer)
        assert (held.id, held.attempts, held.requests) == ("1", 0, 0)
        assert (buffer.snapshot().dead, buffer.snapshot().purged) == (1, 1)


class TestDeadLettersBound:
    def test_what_does_not_fit_is_refused_and_nothing_changes(self, make_buffer, redis):
        buffer = make_buffer(segment_max_dead_bytes=1_000_000)
        buffer.append_many([message(n, padding=15_000) for n in range(80)])
        first, second, over, *_ = [
            hold(buffer, batch.id) for batch in buffer.claim(9, whatever_waits=True)
        ]
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
        assert buffer.purge([first.id]) == first.messages
        buffer.resume()
        buffer.bury(hold(buffer, over.id, "t2"), "400", answered=True)
        assert [letter.id for letter in buffer.dead_letters()] == [second.id, over.id]

    def test_a_stale_holder_is_told_so_when_they_are_full_too(self, make_buffer):
        buffer = make_buffer(segment_max_dead_bytes=1_000_000)
        buffer.append_many([message(n, padding=15_000) for n in range(80)])
        *dead, stale = [hold(buffer, b.id) for b in buffer.claim(3, whatever_waits=True)]
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
        *fit, over = [hold(buffer, b.id) for b in buffer.claim(50, whatever_waits=True)]
        for held in fit:
            buffer.bury(held, "400", answered=True)
        assert buffer.snapshot().dead_bytes == 1_000_000
        with pytest.raises(DeadLettersFull):
            buffer.bury(over, "400", answered=True)

    def test_an_empty_store_takes_any_batch(self, make_buffer):
        buffer = make_buffer(segment_max_dead_bytes=1_000_000)
        buffer.append_many([message(n, padding=15_000) for n in range(40)])
        first = hold(buffer)
        assert first.bytes > 430_000
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
        while page := dead.dead_letters(last, limit=limit):
            assert len(page) <= limit
            found += [letter.id for letter in page]
            last = page[-1]
        assert found == [*self.IDS, "20", "21", "22", "23", "24"]

    @pytest.mark.parametrize("gone", range(10))
    def test_a_page_passes_none_over_when_the_last_is_gone(self, dead, redis, gone):
        page = dead.dead_letters(limit=gone + 1)
        redis.zrem("{segment:default}:dead", *self.IDS[: gone + 1])
        rest = [letter.id for letter in dead.dead_letters(page[-1])]
        assert rest == [*self.IDS[gone + 1 :], "20", "21", "22", "23", "24"]

    def test_times_bound_it_the_first_one_included(self, dead):
        def between(since, until):
            return [letter.id for letter in dead.dead_letters(since=since, until=until)]

        assert between(5.001, None) == ["20", "21", "22", "23", "24"]
        assert between(6.001, 6.003) == ["21", "22"]
        assert between(None, 6.0) == [*self.IDS]
        assert between(6.004, None) == ["24"]
        assert between(6.005, None) == []
        assert dead.last_buried() == 6.004


class TestDue:
    def test_is_told_to_one_until_its_drain_has_begun(self, buffer):
        buffer.append(message(0))
        buffer.mark()
        assert buffer.due(1.0)
        assert not buffer.due(1.0)
        buffer.reap()[0]
        assert buffer.due(1.0)

    def test_nothing_is_due_in_an_empty_or_a_paused_source(self, buffer):
        assert not buffer.due(1.0)
        buffer.append(message(0))
        buffer.mark()
        buffer.pause()
        assert not buffer.due(1.0)

    def test_a_young_open_batch_is_not_due_an_old_one_is(self, make_buffer):
        buffer = make_buffer(segment_flush_interval=0.4)
        buffer.append(message(0))
        assert not buffer.due(0.1)
        wait_until(lambda: buffer.due(0.1))
        assert buffer.snapshot().oldest < 0.4

    def test_an_expired_lease_is_due_even_when_closed(self, make_buffer):
        buffer = make_buffer()
        buffer.append(message(0))
        hold(buffer)
        buffer.pause()
        assert not buffer.due(1.0)
        buffer._pool.command("ZADD", "{segment:default}:inflight", 1, "1")
        assert buffer.due(1.0)


class TestMark:
    def test_what_came_before_the_mark_remains_until_settled(self, buffer):
        for number in range(3):
            buffer.append(message(number))
        mark = buffer.mark()
        buffer.append(message(9))
        assert buffer.remaining(mark) == 3
        held = hold(buffer)
        assert buffer.remaining(mark) == 3
        buffer.split(held)
        assert buffer.remaining(mark) == 3
        buffer.ack(hold(buffer))
        assert buffer.remaining(mark) == 2
        buffer.bury(hold(buffer), "x", answered=True)
        assert buffer.remaining(mark) == 0

    def test_a_great_backlog_is_counted_without_looking_at_each_batch(self, make_buffer):
        buffer = make_buffer(segment_max_batch_messages=1)
        buffer.append_many([message(n) for n in range(1500)])
        mark = buffer.mark()
        buffer.append(message(1501))
        assert buffer.remaining(mark) >= 1500


class TestFullRedis:
    def test_a_call_is_refused_and_the_workers_drain(self, make_buffer, redis):
        buffer = make_buffer()
        for number in range(3000):
            buffer.append(message(number, padding=100))
        redis.config_set("maxmemory", 1)
        before = buffer.snapshot()
        with pytest.raises(BufferFull, match="maxmemory"):
            buffer.append(message(1))
        with pytest.raises(BufferFull):
            buffer.append_many([message(1)] * 3)
        assert replace(buffer.snapshot(), oldest=0) == replace(before, oldest=0)
        assert buffer.due(1.0)
        buffer.reap()[0]
        first = hold(buffer)
        buffer.retry(first, "failure", 0, "503", breaker=BREAKER)
        buffer.split(hold(buffer, first.id, "t2"))
        buffer.bury(hold(buffer), "400", answered=True)
        while batches := buffer.claim(9, whatever_waits=True):
            for batch in batches:
                buffer.ack(hold(buffer, batch.id))
        buffer.pause()
        buffer.resume()
        buffer.mark()
        assert buffer.replay([d.id for d in buffer.dead_letters()]) > 0
        buffer.ack(hold(buffer))
        after = buffer.snapshot()
        assert after.delivered == before.accepted == after.accepted
        redis.config_set("maxmemory", 0)

    def test_dead_letters_are_buried_refused_listed_and_purged(self, make_buffer, redis):
        buffer = make_buffer(segment_max_dead_bytes=1_000_000)
        for number in range(80):
            buffer.append(message(number, padding=15_000))
        first, second, third, *_ = [
            hold(buffer, batch.id) for batch in buffer.claim(9, whatever_waits=True)
        ]
        redis.config_set("maxmemory", 1)
        redis.script_flush()
        buffer.bury(first, "400", answered=True)
        buffer.bury(second, "400", answered=True)
        with pytest.raises(DeadLettersFull):
            buffer.bury(third, "400", answered=True)
        assert [letter.id for letter in buffer.dead_letters()] == [first.id, second.id]
        assert len(buffer.messages(first.id)) == first.messages
        assert buffer.purge([first.id]) == first.messages
        buffer.bury(third, "400", answered=True)
        assert buffer.replay([second.id]) == second.messages
        redis.config_set("maxmemory", 0)


class TestScriptsFlushed:
    def test_every_transition_survives_it(self, buffer, redis):
        def flushed(call):
            redis.script_flush()
            return call()

        flushed(lambda: buffer.append(message(0)))
        flushed(lambda: buffer.append_many([message(1)]))
        assert flushed(lambda: buffer.due(20.0))
        flushed(buffer.reap)
        (batch,) = flushed(lambda: buffer.claim(1, whatever_waits=True))
        held = flushed(lambda: buffer.begin(batch.id, "t1"))
        flushed(lambda: buffer.ack(held))
        assert flushed(buffer.snapshot).delivered == 2


class TestPacking:
    @pytest.fixture
    def backlog(self, make_buffer):
        """A buffer with a hundred ready batches of ten messages."""
        buffer = make_buffer(segment_max_batch_messages=10, segment_max_inflight=1000)
        buffer.pause()
        buffer.append_many([message(n, padding=100) for n in range(1000)])
        buffer.mark()
        return buffer

    def packed(self, redis):
        keys = redis.keys("{segment:default}:batch:*")
        return {int(k.rsplit(b":", 1)[1]) for k in keys if redis.get(k).startswith(b"\x1f")}

    def pack_all(self, buffer):
        while batches := buffer.packable():
            for batch in batches:
                buffer.pack(batch)

    def test_a_backlog_is_packed_but_for_the_youngest(self, backlog, redis):
        batches = redis.keys("{segment:default}:batch:*")
        before = sum(map(redis.memory_usage, batches))
        self.pack_all(backlog)
        assert self.packed(redis) == set(range(1, 81))
        figures = backlog.snapshot()
        assert figures.ready_bytes - figures.saved_bytes == sum(
            redis.strlen(k) for k in redis.keys("{segment:default}:batch:*")
        )
        assert sum(map(redis.memory_usage, batches)) < before / 2
        assert backlog.packable() == []

    def test_what_comes_later_is_packed_later(self, backlog, redis):
        self.pack_all(backlog)
        backlog.append_many([message(n) for n in range(1000, 1200)])
        backlog.mark()
        assert backlog.packable() == [str(n) for n in range(81, 101)]
        self.pack_all(backlog)
        assert self.packed(redis) == set(range(1, 101))

    def test_a_drain_that_lags_behind_another_does_not_have_them_looked_at_again(self, backlog):
        self.pack_all(backlog)
        assert not backlog.pack("5")
        assert backlog.packable() == []

    def test_a_few_batches_are_left_alone(self, make_buffer):
        buffer = make_buffer(segment_max_batch_messages=1)
        buffer.append_many([message(n) for n in range(49)])
        buffer.mark()
        assert buffer.packable() == []
        buffer.pause()
        assert not buffer.due(20.0)

    def test_a_tick_calls_for_it_even_when_the_source_is_closed(self, backlog):
        assert backlog.due(20.0)
        self.pack_all(backlog)
        backlog.reap()
        assert not backlog.due(20.0)

    def test_it_is_read_split_buried_and_delivered_all_the_same(self, backlog):
        self.pack_all(backlog)
        backlog.resume()
        claimed = backlog.claim(3, whatever_waits=True)
        one, two, three = (hold(backlog, b.id, f"t{b.id}") for b in claimed)
        assert [i for held in (one, two) for i in ids(held)] == [f"m{n}" for n in range(20)]
        backlog.ack(one)
        backlog.split(two)
        backlog.bury(three, "400", answered=True)
        assert [json.loads(m)["messageId"] for m in backlog.messages("3")] == [
            f"m{n}" for n in range(20, 30)
        ]
        halves = backlog.claim(2, whatever_waits=True)
        assert [ids(hold(backlog, b.id)) for b in halves] == [
            [f"m{n}" for n in range(10, 15)],
            [f"m{n}" for n in range(15, 20)],
        ]
        assert backlog.replay(["3"]) == 10

    def test_it_makes_room_below_the_bound(self, make_buffer):
        buffer = make_buffer(segment_max_buffer_bytes=150_000, segment_max_batch_messages=5)
        buffer.pause()
        with pytest.raises(BufferFull):
            for number in range(10_000):
                buffer.append(message(number, padding=200))
        accepted = buffer.snapshot().accepted
        self.pack_all(buffer)
        buffer.append_many([message(n, padding=200) for n in range(100)])
        assert buffer.snapshot().accepted == accepted + 100

    def test_a_batch_that_was_taken_meanwhile_stays_as_it_is(self, backlog, redis):
        backlog.resume()
        claimed = [batch.id for batch in backlog.claim(2, whatever_waits=True)]
        assert [backlog.pack(batch) for batch in (*claimed, "999")] == [False] * 3
        assert self.packed(redis) == set()
