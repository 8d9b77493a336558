"""Calls through the broker, whose task message is the only copy of their message."""

from __future__ import annotations

from contextlib import closing

import pytest

from celery_segment import Analytics, track
from celery_segment.testing import EmbeddedRedis
from support import wait_until


def test_a_worker_that_does_not_know_the_source_leaves_it_to_another(make_app, server, workers):
    app = make_app(segment_sources={"new": {"write_key": "k2"}})
    older = workers.start(app, segment_sources={})
    ids = {
        Analytics("new").track.apply_async(("u", f"E{number}"), countdown=0.1).id
        for number in range(6)
    }
    wait_until(lambda: older.output.count("is not stored yet") >= 6)
    workers.start(app)
    older.stop()
    assert server.wait_for_messages(6, timeout=40)
    assert set(server.received) == ids


def test_a_message_that_is_not_valid_fails(make_app, server, workers):
    app = make_app()
    worker = workers.start(app)
    good = {"user_id": "u", "event": "E"}
    app.send_task("segment.track", kwargs={"event": "E"})
    app.send_task("segment.track", kwargs={**good, "evnet": "E"})
    app.send_task("segment.track", args=["u", "E", *[None] * 20])
    app.send_task("segment.track", kwargs={**good, "source": ["default"]})
    app.send_task("segment.track", kwargs=good)
    assert server.wait_for_messages(1, timeout=20)
    wait_until(lambda: worker.output.count("raised unexpected: ValidationError") == 3)
    wait_until(lambda: worker.output.count("raised unexpected: NoIdentity") == 1)
    for told in ("unexpected keyword argument 'evnet'", "too many positional", "source: must be"):
        assert told in worker.output
    assert "is not stored yet" not in worker.output
    assert sum(server.received.values()) == 1


def test_a_call_of_a_newer_version_waits_for_a_worker_that_knows_it(make_app, server, workers):
    app = make_app()
    worker = workers.start(app)
    kwargs = {"user_id": "u", "event": "E", "argument": "of a newer version"}
    app.send_task("segment.track", kwargs=kwargs, headers={"segment": {"prepared": True}})
    wait_until(lambda: "is not stored yet" in worker.output)
    assert not server.requests


@pytest.fixture
def own():
    with EmbeddedRedis(appendonly=False) as own:
        yield own


def test_it_survives_a_full_redis(make_app, own, server, workers):
    app = make_app(broker_url=own.url)
    worker = workers.start(app)
    result = track.apply_async(("u", "E"), countdown=1.0)
    wait_until(lambda: result.id in worker.output)
    with closing(own.client()) as client:
        client.config_set("maxmemory", 1)
        wait_until(lambda: "the broker is answered later" in worker.output)
        assert not server.requests
        client.config_set("maxmemory", 0)
        assert server.wait_for_messages(1, timeout=30)
        wait_until(lambda: not client.exists("unacked"))
    assert worker.process.poll() is None, "it ended by itself"
    assert server.received == {result.id: 1}
