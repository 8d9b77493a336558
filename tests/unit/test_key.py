"""What is known of a write key by the answers to it."""

from __future__ import annotations

import time

import pytest

from celery_segment.delivery.key import KeyRecord, record_of


class Times:
    accepted = refused = 0.0


@pytest.fixture
def times():
    return Times()


@pytest.fixture
def key(times):
    return KeyRecord(times)


def test_it_works_from_an_answer_that_did_not_refuse_it_until_one_that_does(key):
    assert not key.works
    key.accept()
    assert key.works
    key.refuse()
    assert not key.works
    key.accept()
    assert key.works


def test_of_several_refusals_the_first_counts(key, times):
    key.refuse()
    assert time.monotonic() - 5 < times.refused <= time.monotonic()
    times.refused = first = times.refused - 60
    key.refuse()
    assert times.refused == first
    key.accept()
    assert times.refused == 0


@pytest.mark.parametrize(
    ("refused_ago", "delivered_ago", "expected"),
    [(60, 10, True), (60, 70, False), (60, None, False), (None, 10, False)],
)
def test_others_deliver_where_a_batch_was_delivered_since_the_key_was_refused(
    key, times, refused_ago, delivered_ago, expected
):
    times.refused = 0.0 if refused_ago is None else time.monotonic() - refused_ago
    assert key.is_the_only_one_refused(delivered_ago) is expected


def test_a_process_has_one_record_for_each_source_and_host():
    record = record_of("a", "https://one.example")
    assert record_of("a", "https://one.example") is record
    others = record_of("a", "https://two.example"), record_of("b", "https://one.example")
    record.accept()
    for other in others:
        assert not other.works
        assert not other.is_the_only_one_refused(10)
