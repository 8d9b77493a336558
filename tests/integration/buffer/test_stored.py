"""A message is found, after an append whose reply was lost, wherever it is stored by now."""

from __future__ import annotations

import time

import pytest

from batches import hold, message
from celery_segment.buffer import bounds
from celery_segment.buffer.appends import Appends
from support import allow, let_pass


@pytest.fixture
def buffer(make_buffer):
    buffer = make_buffer(segment_max_batch_messages=1, segment_max_inflight=50)
    allow(buffer, 50)
    return buffer


@pytest.fixture
def is_stored(buffer, redis):
    """Ask for a message as if its append had been sent so many seconds ago.

    It returns how many batches were looked into as well.
    """

    def ask(number, ago=60.0):
        before = redis.info("commandstats")["cmdstat_evalsha"]["calls"]
        appends = Appends(buffer._server, buffer.source)
        found = appends._is_stored(message(number) + b",", time.monotonic() - ago)
        return found, redis.info("commandstats")["cmdstat_evalsha"]["calls"] - before

    buffer.append(message(0))
    Appends(buffer._server, buffer.source)._is_stored(b"x", time.monotonic())  # loads the script
    return ask


def append(buffer, *numbers):
    for number in numbers:
        buffer.append(message(number))


def test_in_the_open_batch(buffer, is_stored):
    append(buffer, 1)
    assert is_stored(1) == (True, 1)


@pytest.mark.parametrize(("number", "looks"), [(4, 2), (3, 3), (0, 6)])
def test_in_a_batch_that_was_sealed_meanwhile(buffer, is_stored, number, looks):
    append(buffer, 1, 2, 3, 4, 5)
    assert is_stored(number) == (True, looks)


def test_not_at_all(buffer, is_stored):
    append(buffer, 1, 2)
    assert is_stored(9) == (False, 3)


def test_in_one_batch_while_a_later_one_is_delivered(buffer, is_stored):
    append(buffer, 1, 2, 3)
    first, second, third = [hold(buffer, batch.id) for batch in buffer.claim(3)]
    buffer.ack(third)
    assert is_stored(2) == (False, 4), "it is settled"
    assert is_stored(1) == (True, 3)
    buffer.ack(first)
    buffer.ack(second)


def test_a_batch_that_began_before_is_the_last_to_be_looked_into(buffer, is_stored, redis):
    append(buffer, 1)
    let_pass(redis, 100)
    assert is_stored(0) == (False, 1), "the open batch began before this append was sent"
    append(buffer, 2, 3)
    assert is_stored(1) == (True, 3)
    assert is_stored(0) == (False, 3)


def test_no_more_batches_are_looked_into_than_a_call_has_time_for(buffer, is_stored):
    append(buffer, *range(1, bounds.STORED_BATCHES + 3))
    assert is_stored(0) == (False, 1 + bounds.STORED_BATCHES)
