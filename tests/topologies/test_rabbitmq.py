"""RabbitMQ as the broker, with the buffer in Redis, and each kind of queue."""

from __future__ import annotations

import time

import pytest
from kombu.exceptions import OperationalError

import callbacktasks
from celery_segment import Analytics, track
from celery_segment.testing import EmbeddedRedis, Reply
from checks import findings, rendered
from commands import ok
from support import wait_until

#: Seconds: soon after, and no chance that a worker's tick found it by itself, which takes five.
SOON = 4.0
#: Where messages are confirmed, a worker's own events have its event loop wait for the broker.
WITHOUT_EVENTS = ("--without-heartbeat", "--without-gossip", "--without-mingle")


@pytest.fixture
def only_classic(queue_type):
    if queue_type != "classic":
        pytest.skip("the queues make no difference")


def test_calls_are_delivered_and_need_no_broker(rabbit_app, rabbit, server, workers):
    app = rabbit_app()
    workers.start(app)
    with Analytics().batch():
        ids = {track.delay("u", f"E{n}").id for n in range(300)}
    ids |= {track.delay("u", f"E{n}").id for n in range(100)}
    assert Analytics().flush(20) == 0
    assert set(server.received) == ids
    assert server.duplicates == 0
    wait_until(lambda: rabbit.count(app.conf.task_default_queue) == 0)


@pytest.mark.parametrize("seconds", [0.3, 1, 2.5])
def test_a_countdown_is_waited_for(rabbit_app, server, workers, seconds):
    app = rabbit_app()
    workers.start(app)
    began = time.monotonic()
    result = track.apply_async(("u", "E"), countdown=seconds)
    assert server.wait_for_messages(1, timeout=seconds + SOON)
    assert time.monotonic() - began >= seconds
    assert server.received[result.id] == 1


def test_link_and_link_error_are_called(rabbit_app, server, workers, noted):
    workers.start(rabbit_app())
    server.fail_messages(lambda message: message["event"] == "bad")
    called = {"link": callbacktasks.delivered.s(), "link_error": callbacktasks.failed.s()}
    good, doomed = (track.apply_async(("u", event), **called) for event in ("good", "bad"))
    late = track.apply_async(("u", "good"), countdown=1, **called)
    wait_until(lambda: len(noted("delivered")) == 2 and noted("failed"))
    assert {*noted("delivered")} == {good.id, late.id}
    assert noted("failed") == [doomed.id]


@pytest.mark.parametrize("queue", [None, "analytics"])
def test_retries_come_when_they_are_due(rabbit_app, server, workers, queue):
    name = None
    if queue:
        name = f"{rabbit_app().conf.task_default_queue}-{queue}"
    app = rabbit_app(segment_queue=name, segment_lease=60)
    workers.start(app, *(("-Q", name) if name else ()))
    for _ in range(4):
        server.reply(Reply.status(503))
    result = track.delay("u", "E")
    # After 0, 0.5, 1 and 2 seconds; RabbitMQ holds it for a second at least.
    assert server.wait_for(lambda: server.received[result.id], timeout=3.5 + SOON)
    assert [request.status for request in server.requests] == [503] * 4 + [200]
    assert server.duplicates == 0


def test_a_killed_workers_call_is_redelivered(rabbit_app, server, workers):
    with EmbeddedRedis(appendonly=False) as own:
        app = rabbit_app(segment_redis_url=own.url, segment_redis_timeout=20, segment_timeout=5)
        first = workers.start(app)
        own.pause()
        # Its message is the only copy until Redis has it.
        result = track.apply_async(("u", "E"), countdown=1)
        wait_until(lambda: "args:('segment.track'" in first.output)  # its pool has it
        first.kill()
        own.resume()
        workers.start(app)
        assert server.wait_for_messages(1, timeout=20)
        assert Analytics().flush(10) == 0
        assert dict(server.received) == {result.id: 1}


def test_a_killed_workers_batches_are_taken_over(rabbit_app, server, workers):
    app = rabbit_app(segment_lease=2, segment_timeout=1.5, segment_max_batch_messages=20)
    server.always(Reply.hang(60))
    first = workers.start(app)
    with Analytics().batch():
        ids = {track.delay("u", f"E{n}").id for n in range(300)}
    assert server.wait_for(lambda: len(server.requests) >= 1, timeout=10)
    first.kill()
    server.restore()
    workers.start(app)
    assert Analytics().flush(20) == 0
    assert set(server.received) == ids
    assert Analytics().stats().dead.messages == 0


def test_a_warm_shutdown_loses_and_repeats_nothing(rabbit_app, server, workers):
    app = rabbit_app(segment_max_batch_messages=20, segment_lease=30)
    server.rule(lambda _: Reply.slow(0.02))
    first = workers.start(app)
    with Analytics().batch():
        ids = {track.delay("u", f"E{n}").id for n in range(1_000)}
    ids |= {track.apply_async(("u", "late"), countdown=2).id for _ in range(20)}
    assert server.wait_for_messages(100, timeout=10)
    assert first.stop() == 0
    workers.start(app)
    assert server.wait_for_messages(1_020, timeout=20)
    assert Analytics().flush(15) == 0
    assert set(server.received) == ids
    assert server.duplicates == 0


def test_a_broker_that_is_restarted_loses_no_call(rabbit_app, rabbit, server, workers):
    app = rabbit_app(broker_transport_options={"confirm_publish": True})
    workers.start(app)
    ids = {track.apply_async(("u", "late"), countdown=2).id for _ in range(20)}
    rabbit.stop()
    ids |= {track.delay("u", f"E{n}").id for n in range(100)}
    assert Analytics().flush(0.5) > 0
    rabbit.restart()
    # The worker connects again by itself.
    assert server.wait_for_messages(120, timeout=60)
    assert Analytics().flush(10) == 0
    assert set(server.received) == ids
    assert server.duplicates == 0


@pytest.mark.usefixtures("only_classic")
@pytest.mark.parametrize("confirm", [False, True])
def test_a_broker_that_takes_no_messages_holds_up_no_flush(
    rabbit_app, rabbit, server, workers, confirm
):
    workers.start(
        rabbit_app(broker_transport_options={"confirm_publish": confirm}), *WITHOUT_EVENTS
    )
    track.delay("u", "E")
    assert Analytics().flush(10) == 0
    with rabbit.blocked():
        ids = {track.delay("u", f"E{n}").id for n in range(20)}
        began = time.monotonic()
        assert Analytics().flush(SOON) == 0
        assert time.monotonic() - began < SOON
    assert ids <= set(server.received)
    assert server.duplicates == 0


@pytest.mark.usefixtures("only_classic")
@pytest.mark.parametrize("confirm", [False, True])
def test_a_broker_that_takes_no_messages_holds_up_no_worker(
    rabbit_app, rabbit, server, workers, noted, confirm
):
    """Nor is lost what a worker would publish: further batches, retries, and a ``link``."""
    app = rabbit_app(
        broker_transport_options={"confirm_publish": confirm},
        segment_max_batch_messages=5,
        segment_lease=4,
        segment_timeout=2,
    )
    server.rule(lambda _: Reply.slow(0.05))
    workers.start(app, *WITHOUT_EVENTS)
    track.delay("u", "first")
    assert Analytics().flush(10) == 0
    with rabbit.blocked():
        server.reply(Reply.status(503))
        with Analytics().batch():
            ids = {track.delay("u", f"E{n}").id for n in range(100)}
        linked = track.apply_async(("u", "E"), link=callbacktasks.delivered.s())
        ids.add(linked.id)
        assert Analytics().flush(30) == 0
    assert ids <= set(server.received)
    wait_until(lambda: linked.id in noted("delivered"), timeout=30)
    assert server.duplicates == 0


@pytest.mark.usefixtures("only_classic")
def test_a_broker_that_takes_no_messages_fails_what_travels_through_it(rabbit_app, rabbit):
    rabbit_app(
        broker_transport_options={"confirm_publish": True},
        broker_connection_timeout=0.3,
        task_publish_retry_policy={"max_retries": 1, "interval_start": 0},
    )
    track.apply_async(("u", "E"), countdown=60)
    with rabbit.blocked():
        began = time.monotonic()
        with pytest.raises(OperationalError):
            track.apply_async(("u", "E"), countdown=60)
        assert time.monotonic() - began < SOON
        assert track.delay("u", "stored").id


def test_check_asks_the_workers(rabbit_app, rabbit, workers):
    app = rabbit_app()
    said = rendered(findings(app)["workers"])
    assert said.startswith(f"warn no worker answers at amqp://127.0.0.1:{rabbit.port}//: start one")
    worker = workers.start(app)
    found = findings(app, status=0)
    assert rendered(found["workers"]) == "ok 1 worker answers"
    queue = app.conf.task_default_queue
    assert rendered(found["queue"]) == f"ok {queue!r} is consumed by 1 worker"
    assert rendered(found["buffer"]) == "ok the workers deliver from this Redis"
    assert rendered(found["default", "write key"]) == "ok present"
    alone = findings(app, "--worker", worker.name, status=0)
    assert rendered(alone["worker"]) == f"ok {worker.name} answers"


def test_deliver_needs_no_worker(rabbit_app, server, workers, noted):
    app = rabbit_app()
    result = track.apply_async(("u", "E"), link=callbacktasks.delivered.s())
    server.reply(Reply.status(503))
    assert ok(app, "deliver") == "default: nothing remains\n"
    assert dict(server.received) == {result.id: 1}
    # What it has called waits in RabbitMQ for a worker.
    workers.start(app, processes=1)
    wait_until(lambda: noted("delivered") == [result.id])


def test_a_quorum_queue_needs_the_detection(rabbit_app, workers, queue_type):
    if queue_type == "classic":
        pytest.skip("of quorum queues alone")
    with pytest.raises(AssertionError, match="worker_detect_quorum_queues"):
        workers.start(rabbit_app(), worker_detect_quorum_queues=False)
