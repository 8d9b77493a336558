"""One message that the endpoint, or what is in front of it, answers in a way of its own."""

from __future__ import annotations

import time

import pytest

from celery_segment import Analytics, track
from celery_segment.testing import Reply, SegmentServer
from support import DEFAULTS, wait_until

#: Seconds within which all other messages are delivered. With a 401 that takes 20 on quiet cores:
#: each of six halves is tried some times, half a second apart, before it is split.
WITHIN = 60.0
#: Messages of each source, and which of them is refused.
COUNT, POISON = 50, 12
#: Of each kind that differs: redirects, the configuration, the data, retried ones.
STATUSES = (302, 308, 400, 401, 403, 404, 405, 408, 413, 429, 451, 500, 501, 503, 511, 599)


def poisoned(status):
    """Answer requests that contain the poison in a way of their own."""
    reply = Reply.status(status)
    return lambda request: reply if any(m["event"] == "poison" for m in request.messages) else None


@pytest.fixture
def make(make_app, server, workers):
    def make(rule, **conf):
        app = make_app(segment_retry_for=5.0, segment_max_retries=3, **conf)
        server.rule(rule)
        workers.start(app)

    return make


def test_the_others_are_delivered_and_their_sources_stay_open(make, server):
    """Each status comes to a source of its own; one worker delivers them all."""

    def answer(request):
        poison = any(message["event"] == "poison" for message in request.messages)
        return Reply.status(int(request.write_key)) if poison else None

    make(answer, segment_sources={str(status): {"write_key": str(status)} for status in STATUSES})
    sources = {status: Analytics(source=str(status)) for status in STATUSES}
    for status, source in sources.items():
        with source.batch():
            for number in range(COUNT):
                source.track("u", "poison" if number == POISON else f"{status} {number}")

    def missing():
        counts = {s: source.stats().delivered.messages for s, source in sources.items()}
        return {status: COUNT - 1 - n for status, n in counts.items() if n < COUNT - 1}

    deadline = time.monotonic() + WITHIN
    while (left := missing()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left
    for status, source in sources.items():
        wait_until(lambda source=source: source.stats().dead.messages == 1, timeout=30)
        (letter,) = source.dead_letters
        assert letter.messages == 1
        assert letter.reason.startswith(str(status))
        assert source.stats().gate.state == "open"
        source.track("u", f"{status} later")
    assert server.wait_for(lambda: len(server.received) == len(STATUSES) * COUNT, timeout=WITHIN)
    assert server.duplicates == 0


def test_many_of_them_hold_up_nobody(make, server):
    make(poisoned(500), segment_max_batch_messages=1, segment_max_inflight=2)
    with Analytics().batch():
        for number in range(40):
            track.delay("u", "poison" if number % 2 else f"E{number}")
    assert server.wait_for(lambda: len(server.received) == 20, timeout=WITHIN)


def test_a_wrong_key_is_no_poison(make_app, workers):
    with SegmentServer(write_keys=["right"]) as server:
        app = make_app(segment_host=server.url, segment_write_key="wrong")
        with Analytics().batch():
            for number in range(300):
                track.delay("u", f"E{number}")
        worker = workers.start(app)
        wait_until(lambda: len(server.requests) >= 4, timeout=40)
        wait_until(lambda: Analytics().stats().gate.refused)
        stats = Analytics().stats()
        assert (stats.dead.messages, stats.splits) == (0, 1)
        worker.stop()
        workers.start(app, segment_write_key="right")
        Analytics().resume()
        assert server.wait_for_messages(300, timeout=20)


def test_a_worker_with_an_old_key_leaves_the_messages_to_others(make_app, workers):
    with SegmentServer(write_keys=["right"]) as server:
        app = make_app(segment_host=server.url, segment_write_key="right", segment_timeout=5)
        workers.start(app)
        old = workers.start(app, segment_write_key="wrong")
        deadline, count = time.monotonic() + 12, 0
        while time.monotonic() < deadline:
            track.delay("u", f"E{count}")
            count += 1
            time.sleep(0.02)
        assert server.wait_for(lambda: len(server.received) == count, timeout=10)
        stats = Analytics().stats()
        assert stats.dead.messages == 0
        assert stats.attempts.get("401", 0) < 10
        if stats.attempts.get("401", 0) > 1:
            assert "is refused (401), while others deliver" in old.output


@pytest.mark.usefixtures("server")
def test_a_worker_without_a_key_leaves_the_messages_to_others(make_app, workers):
    app = make_app(segment_write_key=None)
    without = workers.start(app)
    track.delay("u", "E")
    Analytics().flush(0.5)
    assert Analytics().stats().waiting == 1
    assert Analytics().stats().gate.state == "open"
    workers.start(app, segment_write_key=DEFAULTS["segment_write_key"])
    wait_until(lambda: Analytics().stats().delivered.messages == 1)
    assert "no write key" in without.output
