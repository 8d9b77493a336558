"""What is known of a write key by the answers to it."""

from __future__ import annotations

import time

import pytest

from celery_segment.delivery.key import BATCHES, KeyRecord, record_of


@pytest.fixture
def key():
    return KeyRecord()


@pytest.fixture
def times(key):
    return key._times


def test_of_several_refusals_the_first_counts(key, times):
    key.refuse("7", None)
    assert time.monotonic() - 5 < times.refused <= time.monotonic()
    times.refused = first = times.refused - 60
    key.refuse("8", None)
    assert times.refused == first
    key.accept(time.monotonic())
    assert times.refused == 0


@pytest.mark.parametrize(
    ("refused_ago", "delivered_ago", "expected"),
    [(60, 10, True), (60, 70, False), (60, None, False), (None, 10, False)],
)
def test_others_deliver_where_a_batch_was_delivered_since_the_key_was_refused(
    key, times, refused_ago, delivered_ago, expected
):
    times.refused = 0.0 if refused_ago is None else time.monotonic() - refused_ago
    assert key.refuse("7", delivered_ago).is_the_only_one_refused is expected


class TestCleared:
    """Whether a key is known to be good, so that a refusal is the batch's fault."""

    def test_by_an_answer_to_a_request_that_began_after_the_batch_was_refused(self, key):
        assert not key.refuse("7", None).is_cleared
        assert not key.refuse("7", None).is_cleared
        key.accept(time.monotonic())
        assert key.refuse("7", None).is_cleared

    def test_not_by_one_that_began_before(self, key):
        began = time.monotonic()
        key.accept(began)
        assert not key.refuse("7", None).is_cleared, "it may have been revoked since"
        key.accept(began)
        assert not key.refuse("7", None).is_cleared

    def test_not_where_a_batch_of_this_number_in_another_shard_was_refused_before(self, key):
        assert not key.refuse("2/7", None).is_cleared
        key.accept(time.monotonic())
        assert not key.refuse("7", None).is_cleared
        assert not key.refuse("1/7", None).is_cleared
        assert key.refuse("2/7.1", None).is_cleared

    def test_not_where_another_batch_was_refused_before(self, key):
        key.refuse("8", None)
        key.accept(time.monotonic())
        assert not key.refuse("7", None).is_cleared

    def test_of_a_half_by_the_refusal_of_its_whole(self, key):
        key.refuse("7", None)
        key.accept(time.monotonic())
        assert key.refuse("7.2.1", None).is_cleared

    def test_once_for_each_time_that_it_is_accepted(self, key):
        key.refuse("7", None)
        key.accept(time.monotonic())
        assert key.refuse("7", None).is_cleared
        for half in ("7.1", "7.2"):
            assert not key.refuse(half, None).is_cleared, "it may have been revoked since"

    def test_of_several_batches_at_a_time(self, key):
        batches = [str(number) for number in range(1, BATCHES + 2)]
        for batch in batches:
            key.refuse(batch, None)
        key.accept(time.monotonic())
        assert all(key.refuse(batch, None).is_cleared for batch in batches[1:])
        assert not key.refuse(batches[0], None).is_cleared, "it was forgotten"


def test_a_process_has_one_record_for_each_source_and_host():
    record = record_of("a", "https://one.example")
    assert record_of("a", "https://one.example") is record
    others = record_of("a", "https://two.example"), record_of("b", "https://one.example")
    record.refuse("7", None)
    record.accept(time.monotonic())
    for other in others:
        assert not other.refuse("7", 10).is_cleared
    assert record.refuse("7", None).is_cleared
