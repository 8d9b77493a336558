"""What the pages tell of a source's history."""

from __future__ import annotations

import time

import pytest

from celery_segment.buffer import BUCKETS, Latency, Period
from celery_segment.buffer.history import SECONDS
from celery_segment.web.panel.history import Recent, chart_of, recent_of, steps_of

NOW = SECONDS * 6_000_000.0


def latency(*buckets):
    counts = [0] * len(BUCKETS)
    for n in buckets:
        counts[n] += 1
    return Latency(tuple(counts))


def period(back=0, accepted=0, delivered=0, buried=0, attempts=(), took=()):
    """A period so many before the present one."""
    start = NOW - back * SECONDS
    return Period(start, accepted, delivered, buried, dict(attempts), latency(*took))


@pytest.fixture
def at(monkeypatch):
    """Have it be so many seconds after the present period's begin."""
    return lambda seconds: monkeypatch.setattr(time, "time", lambda: NOW + seconds)


def test_rates_are_of_the_present_period_and_of_the_one_before(at):
    at(100)
    lately = recent_of([period(2, 9_000, 9_000), period(1, 700, 300), period(0, 100, 20)])
    assert (lately.accepted, lately.delivered) == (2.0, 0.8)


@pytest.mark.parametrize(("seconds", "passed"), [(-40, 1), (0, 1), (300, 300), (900, 300)])
def test_the_clock_of_redis_may_differ(at, seconds, passed):
    at(seconds)
    assert recent_of([period(1), period(0, 602)]).accepted == 602 / (300 + passed)


def test_the_first_period_alone(at):
    at(50)
    assert recent_of([period(0, 100)]).accepted == 2.0


def test_percentiles_are_of_the_last_hour_where_nothing_was_delivered_lately(at):
    at(10)
    lately = recent_of([period(3, took=[5]), period(1, took=[2]), period(0, took=[3])])
    assert (lately.latency, lately.is_of_hour) == (latency(2, 3), False)
    lately = recent_of([period(3, took=[5]), period(1), period(0)])
    assert (lately.latency, lately.is_of_hour) == (latency(5), True)
    lately = recent_of([period(1), period(0)])
    assert (lately.latency.count, lately.is_of_hour) == (0, False)


def test_what_no_history_has():
    assert recent_of([]) == Recent()
    assert chart_of([], 1).bars == []
    assert steps_of([], 300) == ([], [])


def test_the_bars_beside_a_source_are_as_high_as_the_highest(at):
    at(1)
    periods = [period(2, delivered=50), period(1), period(0, delivered=200)]
    assert recent_of(periods).bars == [0.25, 0.0, 1.0]


def test_a_chart():
    chart = chart_of([period(1, 200, 90, 10), period(0, 50, 150)], 1)
    assert (chart.top, chart.hours) == (200, 1)
    first, last = chart.bars
    assert (first.x, first.width) == (37.5, 425.0)
    assert (first.delivered, first.buried, first.accepted) == (45.0, 5.0, 100.0)
    assert (last.x, last.delivered, last.buried, last.accepted) == (537.5, 75.0, 0.0, 25.0)
    assert first.title == "10 min ago: accepted 200, delivered 90, given up 10"
    assert last.title.startswith("5 min ago: ")
    assert chart.line == "0.0,0.0 500.0,0.0 500.0,75.0 1000.0,75.0"


def test_a_chart_of_nothing_divides_by_nothing():
    chart = chart_of([period(1), period(0)], 1)
    assert chart.top == 0
    assert all(bar.delivered == bar.accepted == 0 for bar in chart.bars)


def test_the_rows_of_a_table_are_of_whole_hours_the_newest_first():
    periods = [
        period(n, 10, 9, 1, {"200": 1, **({"503": 2} if n == 13 else {})}, [2])
        for n in range(17, -1, -1)
    ]
    statuses, steps = steps_of(periods, 3_600)
    assert statuses == ["200", "503"]
    assert [step.total.start % 3_600 for step in steps[:-1]] == [0.0] * (len(steps) - 1)
    assert sorted(steps, key=lambda step: -step.total.start) == steps
    assert sum(step.total.accepted for step in steps) == 180
    assert sum(step.total.latency.count for step in steps) == 18
    assert [sum(column) for column in zip(*(s.attempts for s in steps), strict=True)] == [18, 2]
