"""All processes of all workers together keep to a rate of requests."""

from __future__ import annotations

import json
import threading
import time
from functools import partial

import pytest
from celery import current_app

from batches import claim_one, hold, message
from celery_segment.buffer import Pace, connect
from celery_segment.delivery.attempt import attempt_at_pace
from celery_segment.errors import BufferUnavailable
from celery_segment.runtime import runtime_of
from celery_segment.testing import Reply
from support import buffer_of, forked, free_port

KEY = "{segment:}:pace"


@pytest.fixture
def make_pace(redis, redis_server):  # noqa: ARG001 - an empty Redis
    """Make paces, each with connections of its own as each process has them."""
    pools = []

    def make(rate):
        pools.append(connect(redis_server.url, 5.0))
        return Pace(pools[-1], rate)

    yield make
    for pool in pools:
        pool.close()


def reserve(redis, seconds):
    """Have other processes have reserved the next seconds."""
    now, micros = redis.time()
    redis.set(KEY, now * 1000 + micros // 1000 + round(seconds * 1000))


def assert_kept(times, rate, ahead):
    """Fail where more requests were made in some span than the rate and ``ahead`` allow."""
    times = sorted(times)
    for number in range(len(times)):
        for later in range(number + 1, len(times)):
            span = times[later] - times[number]
            assert later - number <= rate * span + ahead, f"{later - number + 1} in {span:.3f} s"


class TestRate:
    #: A process makes its request somewhat later than it may; a clock of milliseconds adds one.
    def test_of_one(self, make_pace):
        pace, times = make_pace(100.0), []
        for _ in range(50):
            assert pace.wait(5.0)
            times.append(time.monotonic())
        assert_kept(times, 100, 1 + 1)

    def test_of_several_instances_and_threads(self, make_pace):
        rate, instances, threads, each = 200.0, 3, 2, 20
        times = []

        def make_requests(pace):
            for _ in range(each):
                assert pace.wait(30.0)
                times.append(time.monotonic())

        paces = [make_pace(rate) for _ in range(instances)]
        running = [threading.Thread(target=make_requests, args=(p,)) for p in paces * threads]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        assert len(times) == instances * threads * each
        assert_kept(times, rate, instances * threads + 1)

    def test_of_several_processes(self, redis, redis_server, tmp_path):
        redis.delete(KEY)

        def make_requests(path):
            pace, times = Pace(connect(redis_server.url, 5.0), 150.0), []
            for _ in range(40):
                assert pace.wait(30.0)
                times.append(time.monotonic())  # one clock for all processes
            path.write_text(json.dumps(times))

        paths = [tmp_path / str(number) for number in range(3)]
        processes = [forked(partial(make_requests, path)) for path in paths]
        times = []
        for process, path in zip(processes, paths, strict=True):
            process.join()
            assert process.exitcode == 0
            times += json.loads(path.read_text())
        assert len(times) == 120
        assert_kept(times, 150, 3 + 1)

    def test_below_one_a_second(self, make_pace):
        pace = make_pace(0.2)
        assert pace.wait(0)
        began = time.monotonic()
        assert not pace.wait(4.0)
        assert not make_pace(0.2).wait(4.0)
        assert time.monotonic() - began < 1


class TestLongest:
    def test_a_longer_wait_is_refused_at_once_and_reserves_nothing(self, make_pace, redis):
        reserve(redis, 30)
        before, began = redis.get(KEY), time.monotonic()
        assert not make_pace(1_000.0).wait(20)
        assert time.monotonic() - began < 1
        assert redis.get(KEY) == before

    def test_a_shorter_one_is_waited_for(self, make_pace, redis):
        pace, began = make_pace(1_000.0), time.monotonic()
        reserve(redis, 0.3)
        assert pace.wait(20)
        assert time.monotonic() - began >= 0.29

    def test_zero_waits_for_nothing(self, make_pace, redis):
        assert make_pace(1_000.0).wait(0)
        reserve(redis, 30)
        assert not make_pace(1_000.0).wait(0)


class TestGiveBack:
    def test_another_one_takes_its_place(self, make_pace):
        pace, other = make_pace(1.0), make_pace(1.0)
        assert pace.wait(0)
        assert not other.wait(0)
        pace.give_back()
        assert other.wait(0)
        assert not pace.wait(0)

    def test_of_one_that_others_wait_behind(self, make_pace, redis):
        reserve(redis, 30)
        pace, before = make_pace(1.0), float(redis.get(KEY))
        pace.give_back()
        assert float(redis.get(KEY)) == before - 1_000
        assert 29_000 < redis.pttl(KEY) <= 30_000

    @pytest.mark.parametrize("seconds", [None, -0.5])
    def test_whose_time_has_passed_is_not_owed(self, make_pace, redis, seconds):
        if seconds is not None:
            reserve(redis, seconds)
        pace = make_pace(1.0)
        pace.give_back()
        assert pace.wait(0)
        assert not pace.wait(0)


def test_a_request_that_was_not_made_is_not_owed(make_pace, redis):
    reserve(redis, -100)
    pace = make_pace(50.0)
    assert pace.wait(0)
    assert not pace.wait(0)
    assert 0 < redis.pttl(KEY) <= 1_100, "an idle workspace leaves no key"


class TestAttempts:
    """Which of them use up what was reserved."""

    @pytest.fixture
    def buffer(self, make_app):
        return buffer_of(make_app(segment_max_requests_per_second=1))

    @pytest.fixture
    def attempt(self, buffer, redis):
        """Attempt a batch; return the report, and whether a request of the rate was used up."""

        def attempt(batch, longest=0.0):
            pace, before = runtime_of(current_app).pace, redis.get(KEY)
            report = attempt_at_pace(pace, longest, buffer, batch)
            return report, (redis.get(KEY) == before) if before else not pace.wait(0)

        return attempt

    def test_one_that_is_posted_does(self, buffer, attempt, server):
        buffer.append(message(0))
        report, is_used = attempt(claim_one(buffer))
        assert report.text.startswith("delivered 1 message")
        assert is_used
        assert len(server.requests) == 1

    def test_so_does_one_that_fails(self, buffer, attempt, server):
        server.always(Reply.status(503))
        buffer.append(message(0))
        report, is_used = attempt(claim_one(buffer))
        assert report.retry_in is not None
        assert is_used

    def test_one_that_is_gone_does_not(self, attempt, server):
        report, is_used = attempt("7")
        assert report.text.startswith("nothing to do")
        assert not is_used
        assert not server.requests

    def test_nor_does_one_of_a_closed_source(self, buffer, attempt, server):
        buffer.append(message(0))
        batch = claim_one(buffer)
        buffer.admin.pause()
        report, is_used = attempt(batch)
        assert report.text == "put back: the source is closed until it is resumed"
        assert not is_used
        assert not server.requests

    def test_nor_does_one_that_is_damaged(self, buffer, attempt, redis, server):
        buffer.append(message(0))
        batch = claim_one(buffer)
        redis.delete(f"{{segment:default}}:batch:{batch}")
        report, is_used = attempt(batch)
        assert report.buried
        assert not is_used
        assert not server.requests

    def test_a_batch_whose_wait_would_be_longer_is_ready_again_and_was_never_begun(
        self, buffer, attempt, redis, server
    ):
        buffer.append(message(0))
        batch = claim_one(buffer)
        reserve(redis, 30)
        report, is_unchanged = attempt(batch, 20)
        assert report.text == "put back: segment_max_requests_per_second is reached"
        assert is_unchanged
        assert buffer.admin.snapshot().ready.batches == 1
        assert hold(buffer).requests == 0
        assert not server.requests


def test_without_redis_it_raises():
    pace = Pace(connect(f"redis://127.0.0.1:{free_port()}/0", 0.5), 1_000.0)
    with pytest.raises(BufferUnavailable):
        pace.wait(1)


def test_a_full_redis_has_its_workers_keep_to_it_all_the_same(make_pace, redis):
    redis.config_set("maxmemory", 1)
    assert make_pace(1_000.0).wait(5)
    redis.config_set("maxmemory", 0)
