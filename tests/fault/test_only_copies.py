"""Calls through the broker, whose task message is the only copy of their message."""

from __future__ import annotations

import time
from contextlib import closing

import pytest

from celery_segment import Analytics, track
from celery_segment.testing import EmbeddedRedis
from support import wait_until

#: Seconds after which the task's body has tried to send the message again, and to return it.
PAUSE = 4.0


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
    app.send_task("segment.track", kwargs={"event": "E"})
    wait_until(lambda: "ValidationError" in worker.output)
    assert "is not stored yet" not in worker.output
    assert not server.requests


@pytest.fixture
def own():
    with EmbeddedRedis(appendonly=False) as own:
        yield own


def test_it_survives_a_full_redis(make_app, own, server, workers):
    app = make_app(broker_url=own.url, broker_transport_options={"visibility_timeout": 3})
    worker = workers.start(app)
    result = track.apply_async(("u", "E"), countdown=1.0)
    wait_until(lambda: result.id in worker.output)
    with closing(own.client()) as client:
        client.config_set("maxmemory", 1)
        wait_until(lambda: "is not stored yet" in worker.output)
        time.sleep(PAUSE)
        client.config_set("maxmemory", 0)
    # Celery's worker ends where Redis refuses to take a message back; a supervisor restarts it.
    workers.start(app)
    assert server.wait_for_messages(1, timeout=30)
    assert set(server.received) == {result.id}
