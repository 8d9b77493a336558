"""Latencies as a histogram: what is read from it."""

from __future__ import annotations

import math

import pytest

from celery_segment.buffer import BUCKETS, Latency, Period, merge_periods


def of(**counts):
    """Return latencies by the number of a bucket, from 1 on."""
    return Latency.of({f"latency:{name[1:]}": n for name, n in counts.items()})


def test_the_buckets_grow_and_the_last_has_no_bound():
    assert [*BUCKETS] == sorted(set(BUCKETS))
    assert BUCKETS[-1] == math.inf


def test_none_was_delivered():
    none = Latency.of({})
    assert (none.count, none.sum) == (0, 0)
    assert none == Latency()
    assert none.quantile(0.5) is None


@pytest.mark.parametrize(
    ("counts", "q", "seconds"),
    [
        ({"b1": 10}, 0.5, 0.05),
        ({"b1": 10}, 0, 0.0),
        ({"b1": 10}, 1, 0.1),
        ({"b3": 4}, 0.25, 0.225),
        ({"b3": 4}, 0, 0.2),
        ({"b1": 50, "b6": 50}, 0.5, 0.1),
        ({"b1": 50, "b6": 50}, 0.51, 0.755),
        ({"b1": 99, "b21": 1}, 0.99, 0.1),
        ({"b1": 99, "b21": 1}, 0.999, 43_200),
    ],
)
def test_a_quantile_is_within_its_bucket(counts, q, seconds):
    assert of(**counts).quantile(q) == pytest.approx(seconds)


def test_a_sum_and_a_difference():
    one = Latency.of({"latency:2": 3, "latency_sum": 450})
    two = Latency.of({"latency:2": 1, "latency:4": 2, "latency_sum": 1_050})
    both = Latency.of({"latency:2": 4, "latency:4": 2, "latency_sum": 1_500})
    assert one + two == Latency.sum_of([one, two]) == both
    assert (both.count, both.sum) == (6, 1.5)
    assert (both - two).counts == one.counts
    assert (both - two).sum == pytest.approx(one.sum)
    assert two - both == Latency(), "its totals were moved meanwhile"


def test_the_periods_of_shards_whose_clocks_differ():
    def period(start, delivered, **attempts):
        return Period(start, 0, delivered, 0, attempts, of(b1=delivered))

    merged = merge_periods(
        [
            [period(300, 1, ok=1), period(600, 2, ok=2)],
            [period(600, 4, ok=3, failed=1), period(900, 8)],
        ]
    )
    assert merged == [period(300, 1, ok=1), period(600, 6, failed=1, ok=5), period(900, 8)]
