"""How many requests are under way at once: as many as the endpoint's answers allow."""

from __future__ import annotations

from dataclasses import replace

import pytest

from batches import claim_one, hold, message
from celery_segment.buffer import Busy, Gone, Lease, bounds
from support import allow, let_pass

NEVER = (1_000, 60.0, 60.0)  # failures in a row that no test reaches: no breaker


@pytest.fixture
def backlog(make_buffer):
    """A buffer with two hundred ready batches of one message, and room for 32 in flight."""
    buffer = make_buffer(segment_max_batch_messages=1, segment_max_inflight=32)
    buffer.append_many([message(n) for n in range(200)])
    buffer.admin.mark()
    return buffer


def take(buffer, number=99):
    """Claim batches and begin their deliveries."""
    return [hold(buffer, batch.id) for batch in buffer.claim(number)]


def allowed(buffer):
    return buffer.admin.snapshot().concurrency


def fail(buffer, held, seconds=0.01):
    """Have a delivery fail with a 503, to be tried again in an hour."""
    buffer.retry(held, "failure", 3_600, "503", "503", seconds, breaker=NEVER)


class TestGrowth:
    def test_it_starts_from_two_and_grows_by_one_for_each_good_answer_while_all_are_under_way(
        self, backlog
    ):
        found = [allowed(backlog)]
        under_way = take(backlog)
        while len(found) < 10:
            backlog.ack(under_way.pop(0), "200", 0.05)
            found.append(allowed(backlog))
            under_way += take(backlog)
            assert len(under_way) == found[-1]
        assert found == [*range(2, 12)]

    def test_max_inflight_is_its_ceiling(self, backlog):
        allow(backlog, 31)
        under_way = take(backlog)
        for _ in range(5):
            backlog.ack(under_way.pop(), "200", 0.05)
            under_way += take(backlog)
        assert (allowed(backlog), len(under_way)) == (32, 32)

    def test_an_answer_while_fewer_are_under_way_says_nothing(self, backlog):
        allow(backlog, 4)
        for _ in range(5):
            under_way = take(backlog, 3)
            for held in under_way:
                backlog.ack(held, "200", 0.05)
        assert allowed(backlog) == 4

    def test_what_was_claimed_and_has_not_begun_is_not_under_way(self, backlog):
        allow(backlog, 4)
        first, *_ = backlog.claim(4)
        backlog.ack(hold(backlog, first.id), "200", 0.05)
        assert allowed(backlog) == 4

    def test_slow_answers_do_not_raise_it_until_they_are_the_usual_ones(self, backlog):
        allow(backlog, 4)
        under_way = take(backlog)
        backlog.ack(under_way.pop(), "200", 0.05)
        assert allowed(backlog) == 5
        for _ in range(10):
            under_way += take(backlog)
            backlog.ack(under_way.pop(0), "200", 2.0)
        assert allowed(backlog) == 5
        for _ in range(150):  # slower for good
            under_way += take(backlog)
            backlog.ack(under_way.pop(0), "200", 2.0)
        assert allowed(backlog) > 5

    def test_after_a_failure_it_grows_by_one_a_round(self, backlog):
        allow(backlog, 16)
        under_way = take(backlog)
        fail(backlog, under_way.pop())
        for held in under_way:
            backlog.ack(held, "200", 0.05)
        found = [allowed(backlog)]
        allow(backlog, 8)
        under_way = take(backlog)
        for _ in range(9):
            backlog.ack(under_way.pop(0), "200", 0.05)
            under_way += take(backlog)
            found.append(allowed(backlog))
        assert found == [8] * 9 + [9]


class TestHalving:
    def test_a_round_of_failures_halves_it_once(self, backlog, redis):
        allow(backlog, 32)
        under_way = take(backlog)
        assert len(under_way) == 32
        for held in under_way:
            fail(backlog, held, 30.0)
        assert allowed(backlog) == 16
        assert backlog.admin.snapshot().retries == 32
        # The next round begins after it.
        let_pass(redis, 60)
        fail(backlog, take(backlog, 1)[0], 1.0)
        assert allowed(backlog) == 8

    def test_it_falls_to_one_and_no_further(self, backlog, redis):
        allow(backlog, 5)
        found = []
        for _ in range(5):
            fail(backlog, take(backlog, 1)[0], 1.0)
            found.append(allowed(backlog))
            let_pass(redis, 60)
        assert found == [2, 1, 1, 1, 1]
        (held,) = take(backlog)
        backlog.ack(held, "200", 0.05)
        assert allowed(backlog) == 2

    @pytest.mark.parametrize(("what", "expected"), [("failure", 8), ("asked", 8), ("refused", 16)])
    def test_the_configuration_being_refused_is_no_sign_of_load(self, backlog, what, expected):
        allow(backlog, 16)
        (held,) = take(backlog, 1)
        backlog.retry(held, what, 60, "x", "429", 1.0, breaker=NEVER)
        assert allowed(backlog) == expected

    def test_what_is_under_way_beyond_it_ends_before_more_is_claimed(self, backlog):
        allow(backlog, 8)
        first, *others = take(backlog)
        fail(backlog, first, 60.0)
        assert allowed(backlog) == 4
        claimed = []
        for held in others:
            claimed.append(len(backlog.claim(99)))
            backlog.bury(held, "400", answered=True)
        assert claimed == [0, 0, 0, 0, 1, 1, 1]


class TestStint:
    """``claim(stint=)`` takes what so many processes deliver in that time, by the latency."""

    @pytest.mark.parametrize(
        ("batches", "latency", "claimed"),
        [
            (1, 0.1, 1),
            (3, 0.1, 2),  # 0.3 s of work
            (25, 0.1, 10),
            (200, 0.1, 32),
            (25, 0.01, 1),
            (26, 0.01, 2),
            (5, 1.0, 5),
            (3, 0.0, 1),
        ],
    )
    def test_by_the_latency(self, make_buffer, batches, latency, claimed):
        buffer = make_buffer(segment_max_batch_messages=1, segment_max_inflight=32)
        buffer.append(message(0))
        buffer.ack(hold(buffer), "200", latency)
        allow(buffer, 32)
        buffer.append_many([message(n) for n in range(batches)])  # the last is open
        assert len(buffer.claim(99, stint=0.25)) == claimed

    @pytest.mark.parametrize(("last", "claimed"), [(0.1, 1), (1.1, 3), (3.1, 7)])
    def test_by_the_usual_one_of_which_the_last_is_a_fifth(self, make_buffer, last, claimed):
        buffer = make_buffer(segment_max_batch_messages=1, segment_max_inflight=32)
        for seconds in (*[0.1] * 5, last):
            buffer.append(message(0))
            buffer.ack(hold(buffer), "200", seconds)
        allow(buffer, 32)
        buffer.append_many([message(n) for n in range(10)])
        assert len(buffer.claim(99, stint=1.0)) == claimed

    def test_before_the_first_answer(self, backlog):
        allow(backlog, 32)
        assert len(backlog.claim_next(4, stint=0.25)) == 4
        assert len(backlog.claim(99, stint=100.0)) == 1

    def test_never_beyond_what_is_allowed(self, backlog):
        assert len(backlog.claim(99, stint=0.25)) == 2
        assert backlog.claim(99, stint=0.25) == []


class TestRetries:
    def test_while_they_wait_they_take_no_others_place(self, backlog):
        allow(backlog, 4)
        waiting = take(backlog)
        for held in waiting:
            fail(backlog, held, 60.0)
        assert allowed(backlog) == 2
        assert len(take(backlog)) == 2
        figures = backlog.admin.snapshot()
        assert figures.inflight.batches == 6
        assert backlog.admin.remaining(200) == 200

    def test_one_that_comes_while_all_are_under_way_is_put_back(self, backlog):
        (held,) = take(backlog, 1)
        fail(backlog, held)
        allow(backlog, 2)
        others = take(backlog)
        assert backlog.begin(held.id, "t2") == Busy(2)
        assert backlog.begin(held.id, "t3") == Gone(), "its task has ended"
        backlog.ack(others[0], "200", 0.05)
        # It is the oldest, and keeps what was counted.
        again = hold(backlog, token="t4")
        assert (again.id, again.attempts, again.requests) == (held.id, 1, 1)

    def test_one_that_comes_while_there_is_room_begins(self, backlog):
        (held,) = take(backlog, 1)
        fail(backlog, held)
        allow(backlog, 2)
        (_,) = take(backlog, 1)
        assert isinstance(backlog.begin(held.id, "t2"), Lease)
        assert backlog.claim(9) == [], "it takes a place now"

    def test_one_that_was_claimed_is_not_held_up_by_a_limit_that_fell(self, backlog):
        allow(backlog, 4)
        first, second, *_ = backlog.claim(4)
        held = hold(backlog, first.id)
        fail(backlog, held, 60.0)
        allow(backlog, 1)
        assert isinstance(backlog.begin(second.id, "t2"), Lease)

    def test_one_whose_task_was_lost_is_ready_again_when_it_is_overdue(self, buffer, redis):
        buffer.append(message(0))
        held = hold(buffer)
        buffer.retry(held, "failure", 60, "503", breaker=NEVER)
        for passes in (59, bounds.OVERDUE - 1):
            let_pass(redis, passes)
            assert not buffer.due(0)
            assert buffer.reap() == (0, False)
        let_pass(redis, 3)
        assert buffer.due(0)
        assert buffer.reap() == (1, False)
        figures = buffer.admin.snapshot()
        assert (figures.inflight.batches, figures.ready.batches) == (0, 1)
        assert figures.takeovers == 1
        assert claim_one(buffer) == held.id

    def test_resume_makes_them_ready_and_leaves_what_is_held(self, backlog):
        failed, held = take(backlog)
        fail(backlog, failed)
        backlog.admin.resume()
        figures = backlog.admin.snapshot()
        assert (figures.inflight.batches, figures.ready.batches) == (1, 199)
        backlog.ack(held, "200", 0.05)

    def test_an_interrupted_retry_is_told_the_same_twice(self, backlog):
        (held,) = take(backlog, 1)
        fail(backlog, held)
        first, second = (hold(backlog, held.id, "t2") for _ in range(2))
        assert replace(first, age=0) == replace(second, age=0)
        assert second.requests == 1
