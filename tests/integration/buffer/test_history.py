"""What was counted in each five minutes of the last day."""

from __future__ import annotations

from functools import reduce
from operator import add

import pytest

from batches import BREAKER, hold, message
from celery_segment.buffer import Latency, Period, bounds
from celery_segment.buffer.history import KEPT, SECONDS, periods_in

KEY = "{segment:default}:history"


def seconds_of(redis):
    return redis.time()[0]


def test_a_source_that_never_was_has_empty_periods(buffer, redis):
    found = buffer.admin.history(1)
    assert redis.keys() == []
    assert [period.start for period in found] == [
        found[0].start + n * SECONDS for n in range(3600 // SECONDS)
    ]
    assert 0 <= seconds_of(redis) - found[-1].start <= SECONDS, "the present one is the last"
    assert found == [Period(each.start, 0, 0, 0, {}, Latency()) for each in found]


@pytest.mark.parametrize(("hours", "count"), [(0, 1), (0.01, 1), (1, 12), (1.01, 13), (24, 288)])
def test_the_last_hours_have_so_many_periods(buffer, hours, count):
    assert len(buffer.admin.history(hours)) == periods_in(hours) == count


def test_no_more_than_a_day_is_kept(buffer):
    assert len(buffer.admin.history(1_000)) == KEPT // SECONDS


def test_a_period_makes_up_what_the_totals_grew_by(buffer, redis):
    buffer.append_many([message(n) for n in range(6)])
    buffer.split(hold(buffer), "413")
    first, second = (batch.id for batch in buffer.claim(2))
    buffer.ack(hold(buffer, first), "200")
    held = hold(buffer, second)
    buffer.retry(held, "asked", 0, "429", "429", breaker=BREAKER)
    redis.delete("{segment:default}:gate")
    buffer.bury(hold(buffer, second), "400", status="400", answered=True)
    buffer.append(message(7))  # is counted once it is sealed

    s, found = buffer.admin.snapshot(), reduce(add, buffer.admin.history(1))
    assert (found.accepted, found.delivered, found.buried) == (6, 3, 3)
    assert found.attempts == s.attempts == {"200": 1, "400": 1, "413": 1, "429": 1}
    assert found.latency == s.latency
    assert found.latency.count == 3


def test_each_period_is_read_with_its_own_counts(buffer, redis):
    """Also where one call does not read them all."""
    present = seconds_of(redis) // SECONDS
    numbers = [present - n for n in range(0, KEPT // SECONDS - 1, 7)]
    for n in numbers:
        redis.hset(f"{KEY}:{n}", mapping={"delivered": n, "attempts:é\n": 2, "latency:3": n})
    found = {period.start // SECONDS: period for period in buffer.admin.history(24)}
    assert len(found) > 2 * bounds.HISTORY_PERIODS
    counted = {n: period for n, period in found.items() if period.delivered}
    assert sorted(counted) == sorted(numbers)
    for n, period in counted.items():
        assert (period.delivered, period.latency.count, period.accepted) == (n, n, 0)
        assert [*period.attempts.values()] == [2]
        assert "\n" not in "".join(period.attempts)


def test_a_period_is_kept_for_a_day_after_its_end(buffer, redis):
    buffer.append(message(1))
    buffer.admin.mark()
    (key,) = redis.keys(f"{KEY}:*")
    number = int(key.rsplit(b":", 1)[1])
    assert 0 <= seconds_of(redis) - number * SECONDS <= SECONDS
    ends = (number + 1) * SECONDS + KEPT
    assert redis.ttl(key) == pytest.approx(ends - seconds_of(redis), abs=5)
