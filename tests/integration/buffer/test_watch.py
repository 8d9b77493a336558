"""A thread asks a Redis that does not answer, and callers do not wait for it."""

from __future__ import annotations

import threading
import time

import pytest

from celery_segment import BufferUnavailable, track
from celery_segment.runtime import runtime_of
from celery_segment.testing import EmbeddedRedis
from front import Front
from support import at_once, in_child, wait_until

#: Seconds within which Redis is found to be back.
SOON = 0.9


@pytest.fixture
def silent(make_app):
    """An application of which a call has found that Redis is silent, and the way to it."""
    with EmbeddedRedis(appendonly=False) as server, Front(server.port) as front:
        app = make_app(segment_redis_url=front.url, segment_redis_timeout=0.5)
        track.delay("u", "E")
        front.fall_silent()
        assert not succeeds()
        yield app, front
        runtime_of(app).topology.close()
        wait_until(lambda: not watchers())


def succeeds():
    try:
        return bool(track.delay("u", "E").id)
    except BufferUnavailable:
        return False


def watchers():
    return [each for each in threading.enumerate() if each.name == "segment-watch"]


def test_one_asks_while_calls_fail_at_once(silent):
    _, front = silent
    began, accepted, slow = time.monotonic(), front.accepted, 0
    while time.monotonic() < began + 0.9:
        called = time.monotonic()
        assert not any(at_once(4, succeeds))
        slow += time.monotonic() - called > 0.4
        assert len(watchers()) == 1
    assert slow <= 1, "one caller a second tries as well"
    assert 2 <= front.accepted - accepted <= 5


def test_the_next_call_after_it_has_heard_redis_succeeds(silent):
    _, front = silent
    for _ in range(2):
        front.be_heard()
        began = time.monotonic()
        wait_until(lambda: not watchers())  # nobody calls
        assert time.monotonic() - began < SOON
        assert all(at_once(8, succeeds))
        front.fall_silent()
        at_once(8, succeeds)


def test_redis_whose_writes_are_paused_is_not_heard(make_app):
    """As a primary's are while another server takes its place: a PING would be answered."""
    with EmbeddedRedis(appendonly=False) as server:
        make_app(segment_redis_url=server.url, segment_redis_timeout=0.5)
        track.delay("u", "E")
        client = server.client()
        client.execute_command("CLIENT", "PAUSE", 2_000, "WRITE")
        assert not succeeds()
        began, slow = time.monotonic(), 0
        while time.monotonic() < began + 0.9:
            called = time.monotonic()
            assert not any(at_once(4, succeeds))
            slow += time.monotonic() - called > 0.4
        assert slow <= 1, "one caller a second tries as well"
        client.execute_command("CLIENT", "UNPAUSE")
        wait_until(lambda: not watchers())
        assert succeeds()
        client.close()


def test_redis_that_is_gone_is_heard_as_well(silent):
    _, front = silent
    front.target = 1
    front.be_heard()
    wait_until(lambda: not watchers())
    assert not succeeds()
    assert not watchers(), "a refused connection is no wait"


def test_nothing_is_asked_once_the_connections_are_closed(silent):
    app, front = silent
    runtime_of(app).topology.close()
    wait_until(lambda: not watchers())
    accepted = front.accepted
    time.sleep(0.5)
    assert front.accepted == accepted


def test_a_forked_child_has_a_watcher_of_its_own(silent):
    def recovers():
        assert not watchers()
        failed = not succeeds()
        front.be_heard()
        return failed and len(watchers()) == 1 and wait_until(succeeds)

    _, front = silent
    child = threading.Thread(target=lambda: found.append(in_child(recovers)))
    found = []
    child.start()
    time.sleep(1.0)
    front.be_heard()
    child.join()
    assert found == [True]
