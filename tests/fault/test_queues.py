"""Which workers deliver, by the queues that they consume; and what the broker has to do with it."""

from __future__ import annotations

import pytest

from celery_segment import Analytics, track
from celery_segment.testing import Reply
from support import wait_until

pytestmark = pytest.mark.usefixtures("server")

#: Two ways to give the library's own tasks a queue.
WAYS = {
    "segment_queue": {"segment_queue": "segment"},
    "task_routes": {"task_routes": {"segment.*": {"queue": "segment"}}},
}


@pytest.mark.parametrize("way", WAYS)
def test_only_workers_of_the_queue_deliver(make_app, workers, way):
    app = make_app(**WAYS[way])
    others = workers.start(app, "-Q", "celery")
    track.delay("u", "E")
    # While this one starts, the other would have drained several times.
    workers.start(app, "-Q", "segment")
    wait_until(lambda: Analytics().stats().delivered.messages == 1)
    assert "segment.drain" not in others.output.partition("ready.")[2]


def test_a_retry_stays_in_the_queue(make_app, server, workers):
    app = make_app(**WAYS["segment_queue"])
    others = workers.start(app, "-Q", "celery")
    workers.start(app, "-Q", "segment")
    server.reply(Reply.status(503), times=2)
    track.delay("u", "E")
    wait_until(lambda: Analytics().stats().delivered.messages == 1)
    assert Analytics().stats().retries == 2
    assert "segment.deliver[" not in others.output


def test_a_worker_of_this_queue_alone_delivers_with_all_its_processes(make_app, server, workers):
    app = make_app(
        **WAYS["segment_queue"],
        segment_max_batch_messages=1,
        segment_timeout=5,
        segment_worker_share=0.01,
    )
    server.always(Reply.hang(30))
    workers.start(app, "-Q", "segment", processes=2)
    with Analytics().batch():
        for number in range(4):
            track.delay("u", f"E{number}")
    assert server.wait_for(lambda: len(server.requests) == 2, timeout=4), "before a timeout"


def test_an_ordinary_flush_is_no_message_of_the_broker(make_app, redis_server, workers):
    app = make_app(segment_redis_url=f"{redis_server.url[:-1]}1")
    workers.start(app)
    with redis_server.client() as client:
        client.config_resetstat()
        for number in range(5):
            track.delay("u", f"E{number}")
            wait_until(lambda n=number: Analytics().stats().delivered.messages == n + 1)
        assert "cmdstat_lpush" not in client.info("commandstats")
