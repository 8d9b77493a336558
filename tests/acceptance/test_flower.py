"""What Flower and other listeners to Celery's events are shown of the deliveries."""

from __future__ import annotations

import re

import pytest

from celery_segment import Analytics, track
from celery_segment.testing import EmbeddedRedis, Reply
from support import wait_until
from taskevents import listening

TASKS = ("segment.drain", "segment.deliver")


def results(events, task):
    """Return a task's results: the event itself does not have its name."""
    ours = {e["uuid"] for e in events("received") if e["name"] == task}
    return [e["result"] for e in events("succeeded") if e["uuid"] in ours]


@pytest.fixture
def app(make_app):
    return make_app(segment_flush_interval=0.3)


def test_deliveries_are_shown_in_plain_words(app, server, workers):
    server.fail_messages(lambda message: message["event"] == "bad")
    server.reply(Reply.status(500))
    server.reply(Reply.status(429, retry_after=1))
    with listening(app) as events:
        with Analytics().batch():
            for event in ("good", "bad", "good"):
                track.delay("u", event, {"payload": "p4yl04d"})
        workers.start(app, "-E")
        assert Analytics().flush(10) == 0
        (failed,) = wait_until(lambda: events("failed"))
        assert len(server.received) == 2
        delivered = wait_until(
            lambda: [r for task in TASKS for r in results(events, task) if "delivered" in r]
        )
        received = [e for e in events("received") if e["name"] == "segment.deliver"]
        rung = {e["kwargs"] for e in events("received") if e["name"] == "segment.drain"}
        causes = [e["exception"] for e in events("retried")]

    assert rung == {"default"}
    shown = [e["kwargs"] for e in received]
    for kwargs in shown:
        assert re.fullmatch(r"default, batch 1[.12]*, [123] messages?, \d+ bytes", kwargs)
    # The first attempt is the drain's own; its retries are deliveries of the batch.
    assert len([kwargs for kwargs in shown if kwargs.startswith("default, batch 1, 3 ")]) == 2
    assert causes == [
        "DeliveryError('500 Internal Server Error')",
        "DeliveryError('429 Too Many Requests, Retry-After 1 s')",
    ]
    # One delivery goes on with the batches that follow; how far, is a matter of speed.
    so_far = r"(; before it \d batch(es)?, \d messages?, in all \d+ ms)?"
    each = r"delivered 1 message in \d+ ms: 200|split [23] messages in two: 400 Bad Request"
    for result in delivered:
        assert re.fullmatch(f"'({each}|nothing to do: .+){so_far}'", result)
    buried = "dead letter, 1 message: 400 Bad Request"
    answer = "; Segment answers invalid_request"
    show = r"celery -A proj segment dead show (?P<id>1[.12]*)"
    following = rf"; next: {show}, then celery -A proj segment dead replay (?P=id)"
    told = re.fullmatch(
        rf"DeliveryFailed\('{buried}{so_far}{answer}{following}'\)", failed["exception"]
    )
    assert [letter.id for letter in Analytics().dead_letters] == [told["id"]]


def test_a_redis_that_is_away_is_told_with_the_cause(make_app, workers):
    with EmbeddedRedis() as own:
        app = make_app(segment_redis_url=own.url, segment_flush_interval=0.3)
        with listening(app) as events:
            workers.start(app, "-E")
            own.stop()
            kwargs = {"source": "default", "batch": "7", "messages": 1, "bytes": 9}
            deliver = app.tasks["segment.deliver"]
            deliver.apply_async(kwargs=kwargs, kwargsrepr="default, batch 7, 1 message, 9 bytes")
            (ended,) = wait_until(lambda: events("succeeded"))
            call = track.apply_async(("u", "E", {"payload": "p4yl04d"}), countdown=0.1)
            (retried,) = wait_until(lambda: events("retried"))
            named = wait_until(lambda: [e for e in events("received") if e["uuid"] == call.id][1:])
    assert ended["result"].startswith("'cut off: Redis at 127.0.0.1:")
    assert retried["exception"].startswith("BufferUnavailable('Redis at 127.0.0.1:")
    assert named[-1]["kwargs"] == f"default, message {call.id}"


def test_a_call_through_the_broker_shows_its_id_and_no_payload(app, workers):
    with listening(app) as events:
        workers.start(app, "-E")
        result = track.apply_async(("u", "E", {"payload": "p4yl04d"}), countdown=0.1)
        wait_until(lambda: Analytics().stats().delivered.messages)
        (received,) = [e for e in events("received") if e["name"] == "segment.track"]
    assert received["args"] == "()"
    assert received["kwargs"] == f"default, message {result.id}"
