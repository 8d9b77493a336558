"""Latencies are counted for a batch as a whole, by when its messages began and ended."""

from __future__ import annotations

from itertools import pairwise

import pytest

from batches import BREAKER, hold, message
from celery_segment.buffer import BUCKETS, Latency
from celery_segment.buffer.latency import BOUNDS
from support import let_pass

KEY = "{segment:default}"


def spread(count, longest, shortest):
    """The latencies of messages that came evenly, by bucket, and their sum: in milliseconds."""
    each = [longest - (longest - shortest) * n / count for n in range(count)]
    bounds = (0, *(bound * 1000 for bound in BUCKETS))
    counts = [sum(a < ms <= b for ms in each) for a, b in pairwise(bounds)]
    counts[0] += each.count(0)
    return tuple(counts), pytest.approx(sum(each) / 1000, abs=0.002)


def deliver(redis, buffer, since, sealed, count=10):
    """Deliver a batch that began, and was sealed, so many milliseconds ago; return the figures."""
    before = buffer.admin.snapshot().latency
    buffer.append_many([message(n) for n in range(count)])
    held = hold(buffer)
    # The time of the delivery is read behind it.
    seconds, micro = redis.time()
    now = seconds * 1000 + micro // 1000
    times = {"since": now - since} | ({} if sealed is None else {"sealed": now - sealed})
    redis.hdel(f"{KEY}:meta:{held.id}", "since", "sealed")
    redis.hset(f"{KEY}:meta:{held.id}", mapping=times)
    buffer.ack(held, "200")
    at = int(redis.hget(f"{KEY}:stats", "last_delivered"))
    return buffer.admin.snapshot().latency - before, at - now


@pytest.mark.parametrize(
    ("since", "sealed", "count"),
    [
        (80, 5, 1),
        (950, 0, 10),
        (4_000, 3_990, 7),
        (10_000, 10_000, 3),
        (50_000_000, 0, 2_500),
        (90_000_000, 89_000_000, 2_500),
        (10**12, 10**12 - 1, 2_500),
    ],
)
def test_messages_are_spread_evenly_until_the_batch_was_sealed(buffer, redis, since, sealed, count):
    found, late = deliver(redis, buffer, since, sealed, count)
    assert (found.counts, found.sum) == spread(count, since + late, sealed + late)
    assert found.count == count


def test_a_batch_of_the_release_before_has_no_time_at_which_it_was_sealed(buffer, redis):
    found, late = deliver(redis, buffer, 7_000, None, 4)
    assert found.counts[BUCKETS.index(10.0)] == found.count == 4
    assert found.sum == 4 * (7_000 + late) / 1000


@pytest.mark.parametrize(("since", "sealed"), [(-60_000, -60_000), (5_000, -60_000), (0, 9_000)])
def test_a_clock_that_went_back_makes_no_time_negative(buffer, redis, since, sealed):
    """After a failover another server's clock counts."""
    found, late = deliver(redis, buffer, since, sealed, 10)
    assert found.count == 10
    assert found.sum == 0 if since < 0 else 0 <= found.sum <= 10 * (since + late) / 1000


def test_the_bounds_are_given_as_they_are():
    assert [float(bound) / 1000 for bound in BOUNDS.split(",")] == [*BUCKETS[:-1]]


def test_halves_know_when_their_messages_came(buffer, redis):
    buffer.append_many([message(n) for n in range(4)])
    let_pass(redis, 4_000)
    buffer.admin.mark()
    let_pass(redis, 100)
    buffer.split(hold(buffer), "413")
    for batch in buffer.claim(2):
        buffer.ack(hold(buffer, batch.id), "200")
    found = buffer.admin.snapshot().latency
    # 4,100 and 2,100 seconds ago, twice: either half as its whole.
    assert found.counts[BUCKETS.index(3_600.0)] == found.counts[BUCKETS.index(14_400.0)] == 2
    assert found.sum == pytest.approx(2 * 4_100 + 2 * 2_100, abs=5)


def test_a_dead_letter_that_is_replayed_took_all_its_time(buffer, redis):
    buffer.append(message(1))
    held = hold(buffer)
    buffer.bury(held, "400", status="400", answered=True)
    assert buffer.admin.snapshot().latency == Latency()
    let_pass(redis, 1_000)
    buffer.admin.replay([held.id])
    buffer.ack(hold(buffer), "200")
    assert buffer.admin.snapshot().latency.sum == pytest.approx(1_000, abs=5)


def test_the_wait_for_a_retry_counts(buffer, redis):
    buffer.append(message(1))
    buffer.retry(hold(buffer), "failure", 1, "503", "503", breaker=BREAKER)
    let_pass(redis, 100)
    buffer.reap()
    buffer.ack(hold(buffer), "200")
    assert buffer.admin.snapshot().latency.counts[BUCKETS.index(120.0)] == 1


def test_a_batch_is_counted_in_as_many_steps_whatever_it_holds(buffer, redis):
    steps = []
    for count in (1, 2_500):
        buffer.append_many([message(n) for n in range(count)])
        held = hold(buffer)
        redis.config_resetstat()
        buffer.ack(held, "200")
        found = redis.info("commandstats")
        steps.append(sum(each["calls"] for each in found.values()))
    assert steps[0] <= steps[1] <= steps[0] + 2 * len(BUCKETS)
    assert steps[1] < 100
