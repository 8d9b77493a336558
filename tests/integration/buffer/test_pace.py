"""All processes of all workers together keep to a rate of requests."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time

import pytest

from celery_segment.buffer import Pace, connect
from celery_segment.buffer.scripts import script
from celery_segment.errors import BufferUnavailable
from support import TESTS, free_port, in_child

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
    #: A process may hold as many as it reserves at once; a clock of milliseconds adds one.
    def test_of_one(self, make_pace):
        pace, times = make_pace(100.0), []
        for _ in range(50):
            assert pace.wait(5.0)
            times.append(time.monotonic())
        assert_kept(times, 100, 2 + 1)

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
        assert_kept(times, rate, 4 * instances * threads + 1)

    def test_of_several_processes(self, redis, redis_server):
        redis.delete(KEY)
        script = (
            "import json, sys, time\n"
            "from celery_segment.buffer import Pace, connect\n"
            "pace, times = Pace(connect(sys.argv[1], 5.0), 150.0), []\n"
            "for _ in range(40):\n"
            "    assert pace.wait(30.0)\n"
            "    times.append(time.monotonic())\n"  # one clock for all processes
            "print(json.dumps(times))\n"
        )
        command = [sys.executable, "-c", script, redis_server.url]
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, cwd=TESTS) for _ in range(3)]
        times = []
        for process in processes:
            output, _ = process.communicate()
            times += json.loads(output)
        assert len(times) == 120
        assert_kept(times, 150, 3 * 3 + 1)

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
        reserve(redis, 0.3)
        began = time.monotonic()
        assert make_pace(1_000.0).wait(20)
        assert time.monotonic() - began >= 0.29

    def test_zero_waits_for_nothing(self, make_pace, redis):
        assert make_pace(1_000.0).wait(0)
        reserve(redis, 30)
        assert not make_pace(1_000.0).wait(0)


class TestAhead:
    @pytest.fixture
    def asked(self, redis):
        """Count how often Redis was asked."""
        return lambda: redis.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]

    def test_a_fast_process_reserves_twice_as_many_each_time_up_to_twenty(self, make_pace, asked):
        pace, counts = make_pace(1_000.0), []
        pace._server.run(script("register"), "{segment:}")  # asks for the user's rights
        for _ in range(6):
            before = asked()
            assert pace.wait(5)
            assert asked() == before + 1
            counts.append(pace._left + 1)
            for _ in range(counts[-1] - 1):
                assert pace.wait(0)
            assert asked() == before + 1
        assert counts == [1, 2, 4, 8, 16, 20]

    def test_a_slow_one_reserves_one_by_one(self, make_pace, redis, monkeypatch):
        pace, clock = make_pace(1_000.0), time.monotonic
        for passed in range(3):
            monkeypatch.setattr(time, "monotonic", lambda passed=passed: clock() + 2 * passed)
            assert pace.wait(5)
        reserve(redis, 30)
        assert not pace.wait(0)

    def test_what_was_reserved_is_given_up_after_a_second(self, make_pace, redis, monkeypatch):
        pace, clock = make_pace(1_000.0), time.monotonic
        for _ in range(2):
            assert pace.wait(5)
        assert pace._left == 1
        monkeypatch.setattr(time, "monotonic", lambda: clock() + 1.01)
        reserve(redis, 30)
        assert not pace.wait(0)
        redis.delete(KEY)
        assert pace.wait(5)
        assert pace._left == 0, "what was not used up in time is not reserved again"

    def test_a_reservation_that_passed_is_not_owed(self, make_pace, redis):
        reserve(redis, -100)
        pace = make_pace(50.0)
        assert pace.wait(0)
        assert not pace.wait(0)
        assert 0 < redis.pttl(KEY) <= 1_100, "an idle workspace leaves no key"

    def test_a_child_has_none_of_its_parents(self, make_pace, redis):
        pace = make_pace(1_000.0)
        for _ in range(2):
            assert pace.wait(5)
        reserve(redis, 30)
        assert not in_child(lambda: pace.wait(0))
        assert pace.wait(0), "the parent keeps them"

    def test_a_child_does_not_wait_for_a_lock_of_its_parent(self, make_pace):
        pace = make_pace(1_000.0)
        with pace._lock:
            assert in_child(lambda: pace.wait(5))


def test_without_redis_it_raises():
    pace = Pace(connect(f"redis://127.0.0.1:{free_port()}/0", 0.5), 1_000.0)
    with pytest.raises(BufferUnavailable):
        pace.wait(1)


def test_a_full_redis_has_its_workers_keep_to_it_all_the_same(make_pace, redis):
    redis.config_set("maxmemory", 1)
    assert make_pace(1_000.0).wait(5)
    redis.config_set("maxmemory", 0)
