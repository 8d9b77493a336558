"""Batches are claimed, held by a lease, and found due."""

from __future__ import annotations

import pytest

from batches import BREAKER, assert_conserved, claim_one, hold, message
from celery_segment.buffer import Gone, Lease, LeasedElsewhere, Stale, bounds
from support import allow, buffer_of, let_pass, wait_until


class TestClaim:
    def test_claims_stay_within_max_inflight(self, make_buffer):
        buffer = make_buffer(segment_max_inflight=3, segment_max_batch_messages=1)
        for number in range(5):
            buffer.append(message(number))
        allow(buffer, 9)
        assert len(buffer.claim(2)) == 2
        assert len(buffer.claim(9)) == 1
        assert buffer.claim(9) == []

    def test_a_claim_takes_the_open_batch_however_young_and_a_further_one_leaves_it(self, buffer):
        buffer.append(message(0))
        assert buffer.claim_next(9) == []
        assert [b.count for b in buffer.claim(9)] == [1]
        buffer.append(message(1))
        assert buffer.claim_next(9) == []
        assert buffer.admin.snapshot().buffered.messages == 1

    def test_the_open_batch_is_left_to_fill_where_ready_ones_take_all_the_room(self, make_buffer):
        buffer = make_buffer(segment_max_batch_messages=1)
        buffer.append_many([message(n) for n in range(3)])  # two are sealed
        assert [b.id for b in buffer.claim(2)] == ["1", "2"]
        assert buffer.admin.snapshot().buffered.messages == 1

    def test_a_released_batch_is_ready_again_and_one_that_is_held_is_not(self, buffer):
        buffer.append(message(0))
        batch = claim_one(buffer)
        assert buffer.release(batch)
        assert not buffer.release(batch)
        assert isinstance(buffer.begin(batch, "t1"), Gone)
        held = hold(buffer)
        assert not buffer.release(held.id)
        buffer.retry(held, "failure", 60, "503", breaker=BREAKER)
        assert buffer.release(held.id)
        assert claim_one(buffer) == held.id


class TestAbandoned:
    """Batches whose claim was lost on its way, or whose delivery found Redis away."""

    @pytest.fixture
    def claimed(self, make_buffer):
        buffer = make_buffer(segment_max_batch_messages=1)
        buffer.append_many([message(n) for n in range(4)])
        assert [b.id for b in buffer.claim(9)] == ["1", "2"]
        return buffer

    def test_they_are_due_and_claimed_soon_and_long_before_their_lease_ends(self, claimed, redis):
        assert not claimed.due(0.0)
        assert claimed.claim(9) == []
        let_pass(redis, bounds.BEGIN)
        assert claimed.due(0.0)
        assert [b.id for b in claimed.claim(9)] == ["1"]
        assert claimed.claim_next(9)[0].id == "2"
        assert claimed.claim_next(9) == claimed.claim(9) == []
        claimed.reap()
        assert not claimed.due(0.0)

    def test_they_come_before_what_is_ready(self, claimed, redis):
        let_pass(redis, bounds.BEGIN)
        allow(claimed, 3)
        assert [b.id for b in claimed.claim(9)] == ["1", "3"]
        assert [b.id for b in claimed.claim_next(9)] == ["2"]

    def test_one_whose_delivery_has_begun_is_left_to_its_holder(self, claimed, redis):
        held = [hold(claimed, batch) for batch in ("1", "2")]
        let_pass(redis, 30)
        assert not claimed.due(0.0)
        assert claimed.claim(9) == claimed.claim_next(9) == []
        for each in held:
            claimed.ack(each)

    def test_both_who_have_it_may_begin_and_one_does(self, claimed, redis):
        let_pass(redis, bounds.BEGIN)
        assert claim_one(claimed) == "1"
        first = hold(claimed, "1", "t1")
        assert isinstance(claimed.begin("1", "t2"), LeasedElsewhere)
        claimed.ack(first)

    def test_they_wait_while_the_source_is_closed(self, claimed, redis):
        let_pass(redis, bounds.BEGIN)
        claimed.admin.pause()
        assert not claimed.due(0.0)
        assert claimed.claim(9) == []

    def test_whoever_lost_the_reply_that_a_drain_is_due_does_not_wait_for_it(self, buffer):
        buffer.append(message(0))
        assert buffer.due(0.0)
        assert not buffer.due(0.0)
        assert buffer.due(0.0, unsure=True)
        assert not buffer.due(60, unsure=True), "two drains are so far apart"


class TestWaiting:
    """A claimed batch waits for the task that is published for it, or for who has time before."""

    @pytest.fixture
    def full(self, make_buffer):
        buffer = make_buffer(segment_max_batch_messages=1)
        allow(buffer, 9)
        buffer.append_many([message(n) for n in range(9)])
        return buffer

    def test_the_first_is_begun_by_who_claims_it_and_the_others_are_taken_once(self, full):
        first, second, third = full.claim(3)
        assert not full.take(first.id)
        assert full.take(second.id)
        assert not full.take(second.id)
        assert full.claim_next(2) == [third]
        assert not full.take(third.id)

    def test_one_that_is_claimed_at_the_end_of_a_stint_waits_for_either_of_two_tasks(self, full):
        (batch,) = full.claim_next(1, begins=False)
        assert full.claim_next(1, begins=False) == [batch]
        assert full.take(batch.id)
        assert not full.take(batch.id)

    def test_one_that_was_begun_or_put_back_does_not_wait(self, full):
        _, second, third = full.claim(3)
        assert isinstance(full.begin(second.id, "t1"), Lease)
        assert full.release(third.id)
        assert not full.take(second.id)
        assert not full.take(third.id)
        assert not full.take("999")


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
        assert buffer.admin.snapshot().delivered.messages == 1

    def test_an_expired_lease_is_taken_over_and_its_holder_refused(self, make_app, redis):
        buffer = buffer_of(make_app(segment_lease=1.0, segment_timeout=0.5))
        buffer.append(message(0))
        stale = hold(buffer)
        assert buffer.reap() == (0, False)
        assert wait_until(lambda: buffer.reap()[0]) == 1
        assert isinstance(buffer.begin(stale.id, "t2"), Gone), "it is ready, and not in flight"
        for settle in (
            lambda: buffer.ack(stale),
            lambda: buffer.retry(stale, "failure", 0, "x", breaker=BREAKER),
            lambda: buffer.split(stale),
            lambda: buffer.bury(stale, "x", answered=True),
            lambda: buffer.damage(stale, "x"),
        ):
            with pytest.raises(Stale):
                settle()
        again = hold(buffer, token="t2")
        assert again.id == stale.id
        buffer.ack(again)
        assert buffer.admin.snapshot().takeovers == 1
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
        assert buffer.admin.snapshot().retries == 2


class TestDue:
    def test_is_due_for_one_caller_and_for_the_next_once_that_drain_has_begun(self, buffer, redis):
        buffer.append(message(0))
        assert buffer.due(60)
        assert not buffer.due(60)
        buffer.reap()
        assert not buffer.due(60), "two drains are so far apart"
        let_pass(redis, 60)
        assert buffer.due(60)

    def test_a_drain_that_does_not_begin_is_started_again_ever_less_often(self, make_buffer, redis):
        buffer = make_buffer(segment_flush_interval=60)  # which has no part in it
        buffer.append(message(0))
        assert buffer.due(0.2)
        waits = []
        for _ in range(7):
            waits.append(0)
            while not buffer.due(0.2):
                let_pass(redis, 1)
                waits[-1] += 1
        assert waits == [2, 4, 8, 16, 32, 60, 60]
        buffer.reap()
        let_pass(redis, 0.2)
        assert buffer.due(0.2)

    def test_nothing_is_due_in_an_empty_or_a_paused_source(self, buffer):
        assert not buffer.due(1.0)
        buffer.append(message(0))
        buffer.admin.mark()
        buffer.append(message(1))
        buffer.admin.pause()
        assert not buffer.due(1.0)

    def test_a_young_open_batch_of_one_message_is_due(self, make_buffer):
        buffer = make_buffer(segment_flush_at=20, segment_flush_interval=60)
        buffer.append(message(0))
        assert buffer.due(1.0)

    def test_nothing_is_due_while_as_many_as_are_allowed_are_under_way(self, make_buffer):
        buffer = make_buffer(segment_max_batch_messages=1)
        buffer.append_many([message(n) for n in range(4)])
        first, _ = buffer.claim(9)
        assert not buffer.due(1.0)
        buffer.ack(hold(buffer, first.id))
        assert buffer.due(1.0)

    def test_an_expired_lease_is_due_even_when_closed(self, make_buffer):
        buffer = make_buffer()
        buffer.append(message(0))
        hold(buffer)
        buffer.admin.pause()
        assert not buffer.due(1.0)
        buffer._server.execute("ZADD", "{segment:default}:inflight", 1, "1")
        assert buffer.due(1.0)


class TestMark:
    def test_what_came_before_the_mark_remains_until_settled(self, buffer):
        for number in range(3):
            buffer.append(message(number))
        mark = buffer.admin.mark()
        buffer.append(message(9))
        assert buffer.admin.remaining(mark) == 3
        held = hold(buffer)
        assert buffer.admin.remaining(mark) == 3
        buffer.split(held)
        assert buffer.admin.remaining(mark) == 3
        buffer.ack(hold(buffer))
        assert buffer.admin.remaining(mark) == 2
        buffer.bury(hold(buffer), "x", answered=True)
        assert buffer.admin.remaining(mark) == 0

    def test_a_great_backlog_is_counted_without_looking_at_each_batch(self, make_buffer):
        buffer = make_buffer(segment_max_batch_messages=1)
        buffer.append_many([message(n) for n in range(1500)])
        mark = buffer.admin.mark()
        buffer.append_many([message(1501), message(1502)])  # one of them is sealed
        assert buffer.admin.remaining(mark) == 1501
