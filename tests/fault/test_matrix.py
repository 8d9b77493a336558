"""The fault matrix: one ordinary disaster a test, with what it may cost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime, timezone
from pathlib import Path

import libfaketime
import pytest

from celery_segment import Analytics, BufferFull, BufferUnavailable, track
from celery_segment.buffer import Buffer
from celery_segment.delivery import transport
from celery_segment.delivery.attempt import attempt_delivery
from celery_segment.testing import EmbeddedRedis, Reply, SegmentServer
from support import (
    DEFAULTS,
    TESTS,
    allow,
    buffer_of,
    killed_in_child,
    let_pass,
    new_app,
    wait_until,
)

FAST = {"segment_flush_interval": 0.5, "segment_lease": 2.0, "segment_timeout": 1.5}


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def attempt_doomed(conf, where):
    """Attempt to deliver a batch, as a worker's process that is killed at some point."""
    buffer = buffer_of(new_app(conf))

    def die_within(operation, *args):
        # The command is sent and carried out, and nobody hears of it.
        def exchange(command, **_):
            buffer._server._connect().exchange(command)
            die()

        buffer._server._exchange = exchange
        operation(*args)

    if where == "claim":
        die_within(buffer.claim, 1)
    (batch,) = buffer.claim(1)
    match where:
        case "reap":
            # Its lease is over.
            buffer._server.execute("ZADD", "{segment:default}:inflight", 0, batch.id)
            die_within(buffer.reap)
        case "post":
            transport.post = die
        case "ack":
            Buffer.ack = die
        case "within ack":
            original = Buffer.ack
            Buffer.ack = lambda *args: (original(*args), die())
    attempt_delivery(buffer, batch.id)


@pytest.mark.parametrize(
    ("where", "requests", "duplicates"),
    [("claim", 1, 0), ("reap", 1, 0), ("post", 1, 0), ("ack", 2, 20), ("within ack", 1, 0)],
)
def test_a_worker_killed_at(make_app, server, workers, where, requests, duplicates):
    app = make_app(**FAST)
    with Analytics().batch():
        ids = {track.delay("u", f"E{n}").id for n in range(20)}
    killed_in_child(lambda: attempt_doomed(app.conf.changes, where))
    workers.start(app, processes=1)
    assert Analytics().flush(15) == 0
    assert set(server.received) == ids
    assert (len(server.requests), server.duplicates) == (requests, duplicates)


def test_redis_killed_loses_nothing_accepted(make_app, server, redis_server, workers):
    with EmbeddedRedis(config={"appendfsync": "always"}) as own:
        app = make_app(**FAST, segment_redis_url=own.url, broker_url=redis_server.url)
        workers.start(app)
        accepted = set()
        for round_ in range(3):
            for number in range(200):
                accepted.add(track.delay("u", f"E{round_}.{number}").id)
            own.kill()
            with pytest.raises(BufferUnavailable):
                track.delay("u", "lost")
            own.restart()
        assert Analytics().flush(30) == 0
        assert accepted <= set(server.received)
        assert Analytics().stats().dead.messages == 0


def test_redis_away_between_the_answer_and_the_ack_repeats_nothing(
    make_app, server, redis_server, workers
):
    with EmbeddedRedis(config={"appendfsync": "always"}) as own:
        app = make_app(
            segment_redis_url=own.url, broker_url=redis_server.url, segment_flush_interval=0.5
        )
        workers.start(app)
        server.always(Reply.slow(1))
        ids = {track.delay("u", f"E{n}").id for n in range(10)}
        assert server.wait_for_messages(1, timeout=10)
        own.kill()
        server.restore()
        assert server.wait_for(lambda: server.requests[0].status == 200, timeout=10)
        own.restart()
        assert Analytics().flush(15) == 0
        assert set(server.received) == ids
        assert server.duplicates == 0


def test_redis_full_refuses_calls_and_is_drained_empty(
    make_app, server, redis, redis_server, workers
):
    # The broker elsewhere: it, too, would be refused.
    with EmbeddedRedis(appendonly=False) as broker:
        app = make_app(**FAST, segment_redis_url=redis_server.url, broker_url=broker.url)
        with Analytics().batch():
            ids = {track.delay("u", f"E{n}", {"x": "y" * 500}).id for n in range(5000)}
        redis.config_set("maxmemory", 1)
        with pytest.raises(BufferFull):
            track.delay("u", "refused")
        workers.start(app)
        assert Analytics().flush(30) == 0
        assert set(server.received) == ids
        with pytest.raises(BufferFull):
            track.delay("u", "refused")
        redis.config_set("maxmemory", 0)
        track.delay("u", "fits again")
        assert Analytics().flush(10) == 0


def test_a_key_that_is_refused_for_hours_buries_nothing(make_app, redis):
    with SegmentServer(write_keys=["right"]) as server:
        wrong = make_app(segment_host=server.url, segment_write_key="wrong")
        ids = {track.delay("u", f"E{n}").id for n in range(50)}
        buffer = buffer_of(wrong)
        for _ in range(200):
            let_pass(redis, 500)  # beyond the longest pause and the lease
            buffer.reap()
            for batch in buffer.claim(32):
                attempt_delivery(buffer, batch.id)
        # Beyond both limits, and not given up: 27 hours, with more than max_retries requests.
        assert len(server.requests) >= 200
        figures = buffer.admin.snapshot()
        # It is compared with its own half once, since there is no other batch.
        assert (figures.dead.messages, figures.splits) == (0, 1)
        assert buffer.admin.snapshot().gate.reason.startswith("401")
        right = make_app(segment_host=server.url, segment_write_key="right")
        let_pass(redis, 500)
        buffer_of(right).reap()
        for batch in buffer_of(right).claim(32):
            attempt_delivery(buffer_of(right), batch.id)
        assert set(server.received) == ids
        assert server.duplicates == 0


def test_doubled_task_messages_do_nothing_twice(make_app, server, redis, workers):
    app = make_app(**FAST, segment_max_batch_messages=10)
    with Analytics().batch():
        ids = {track.delay("u", f"E{n}").id for n in range(200)}
    buffer = buffer_of(app)
    allow(buffer, 20)
    for batch in buffer.claim(20):
        for _ in range(3):
            app.tasks["segment.deliver"].apply_async(
                kwargs={
                    "source": "default",
                    "batch": batch.id,
                    "messages": batch.count,
                    "bytes": batch.size,
                }
            )
    workers.start(app)
    assert Analytics().flush(15) == 0
    wait_until(lambda: redis.llen("celery") == 0)
    assert set(server.received) == ids
    assert server.duplicates == 0


def test_all_task_messages_lost_cost_a_lease_and_a_tick(make_app, server, redis, workers):
    app = make_app(**FAST, segment_max_batch_messages=10)
    with Analytics().batch():
        ids = {track.delay("u", f"E{n}").id for n in range(200)}
    allow(buffer_of(app), 20)
    assert len(buffer_of(app).claim(20)) == 20
    redis.delete("celery", "unacked", "unacked_index")
    started = time.monotonic()
    workers.start(app)
    assert server.wait_for_messages(200, timeout=20)
    assert time.monotonic() - started < FAST["segment_lease"] + 0.5 + 5
    assert set(server.received) == ids
    assert server.duplicates == 0


def test_an_endpoint_slower_than_the_timeout_delivers_once_it_is_quicker(make_app, server, workers):
    app = make_app(segment_flush_interval=0.5, segment_timeout=0.5, segment_lease=2.0)
    server.always(Reply.hang(60))
    ids = {track.delay("u", f"E{n}").id for n in range(10)}
    workers.start(app)
    wait_until(lambda: Analytics().stats().retries >= 2)
    server.restore()
    assert Analytics().flush(15) == 0
    assert set(server.received) == ids
    assert Analytics().stats().dead.messages == 0


def test_a_backlog_meets_the_endpoint_in_no_burst(make_app, workers):
    busy, most, lock = [0], [0], threading.Lock()

    def watch(_request):
        with lock:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
        time.sleep(0.01)  # a request takes its time, so that others may overlap
        with lock:
            busy[0] -= 1

    with SegmentServer(record="ids") as server:
        app = make_app(**FAST, segment_host=server.url, segment_max_inflight=3)
        data = [
            b'{"type":"track","messageId":"m%d","userId":"u","event":"%s"}' % (n, b"e" * 300)
            for n in range(100_000)
        ]
        buffer_of(app).append_many(data)
        server.rule(watch)
        workers.start(app, pool="threads", processes=12)
        assert Analytics().flush(60) == 0
        assert len(server.received) == 100_000
        assert server.duplicates == 0
        assert server.violations == []
        assert 1 <= most[0] <= 3
        # Round trips do not grow with the backlog: batches are full.
        assert len(server.requests) < 100


def test_a_backlog_that_was_compressed_during_an_outage_is_delivered(make_app, server, workers):
    app = make_app(**FAST, segment_max_batch_messages=10)
    analytics = Analytics()
    analytics.pause()
    workers.start(app)
    with analytics.batch():
        ids = {track.delay("u", f"E{n}", {"x": "y" * 100}).id for n in range(2_000)}
    buffer = buffer_of(app)
    buffer.admin.mark()
    # The workers' ticks have it compressed while nothing is delivered.
    wait_until(lambda: analytics.stats().saved_bytes and not buffer.compressible())
    figures = analytics.stats()
    assert (figures.ready.messages, figures.delivered.messages) == (2_000, 0)
    assert figures.saved_bytes > figures.ready.bytes / 2
    server.fail_messages(lambda message: message["event"] == "E77")
    analytics.resume()
    assert analytics.flush(30) == 0
    assert len(set(server.received) & ids) == 1_999
    assert server.duplicates == 0
    assert server.violations == []
    (letter,) = analytics.dead_letters
    assert analytics.dead_letters.messages(letter.id)[0]["event"] == "E77"
    assert analytics.stats().saved_bytes == 0


def test_a_flood_on_one_source_does_not_starve_another(make_app, server, workers):
    app = make_app(
        **FAST, segment_max_batch_messages=20, segment_sources={"small": {"write_key": "k2"}}
    )
    server.rule(lambda _: Reply.slow(0.02))
    with Analytics().batch():
        for n in range(30_000):
            track.delay("u", f"flood{n}")
    workers.start(app)
    small = Analytics("small")
    oldest = 0.0
    for n in range(5):
        small.track("u", f"small{n}")
        wait_until(lambda n=n: small.stats().delivered.messages > n, timeout=10)
        oldest = max(oldest, small.stats().oldest)
    assert Analytics().stats().delivered.messages < 30_000, "the flood was over too soon to tell"
    assert oldest < 5


@pytest.mark.parametrize("offset", ["+3600", "-3600"])
def test_a_worker_whose_clock_is_an_hour_off_delivers_all_the_same(
    make_app, server, workers, offset
):
    library = next(Path(libfaketime.__file__).parent.rglob("libfaketime.so.1"))
    clock = {
        "LD_PRELOAD": str(library),
        "FAKETIME": offset,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    app = make_app(**FAST)
    server.reply(Reply.status(500), times=3)
    ids = {track.delay("u", f"E{n}").id for n in range(30)}
    worker = workers.start(app, environ=clock, processes=1)
    assert Analytics().flush(20) == 0
    assert set(server.received) == ids
    (sent_at, *_) = (request.sent_at for request in server.requests)
    off = datetime.fromisoformat(sent_at.replace("Z", "+00:00")) - datetime.now(timezone.utc)
    assert abs(off.total_seconds() - int(offset)) < 60, "the worker's clock was not off"
    assert worker.process.poll() is None


GREENLETS = """
from gevent import monkey; monkey.patch_all()
import gevent, json, os
from support import new_app
from celery_segment import Analytics, track
app = new_app(json.loads(os.environ["TESTS_CONF"]))
app.set_default()
def work():
    app.set_current()
    return [track.delay("u", "E").id for _ in range(20)]
jobs = [gevent.spawn(work) for _ in range(100)]
gevent.joinall(jobs)
for job in jobs:
    print(*job.get(), sep="\\n")
"""


def test_greenlets_share_without_mixing(make_app, redis):
    app = make_app()
    conf = {**DEFAULTS, "broker_url": app.conf.broker_url}
    environ = {**os.environ, "TESTS_CONF": json.dumps(conf), "PYTHONPATH": str(TESTS)}
    before = redis.info("stats")["total_connections_received"]
    done = subprocess.run(
        [sys.executable, "-c", GREENLETS], env=environ, check=True, capture_output=True, text=True
    )
    assert len(set(done.stdout.split())) == 2000
    assert Analytics().stats().accepted == 2000
    # As many as were under way at once, not one for each call.
    assert redis.info("stats")["total_connections_received"] - before <= 110
