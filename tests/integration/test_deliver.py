"""Delivery in the calling process: without a worker, and without the broker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from celery_segment import Analytics, track
from celery_segment.delivery.attempt import attempt_delivery
from celery_segment.testing import Reply
from commands import run
from support import DEFAULTS, TESTS, WRITE_KEY, buffer_of, free_port, let_pass, wait_until


@pytest.fixture
def brokerless(make_app, redis_server):
    """Make an application whose broker is down: its buffer is all that it has."""

    def make(**conf):
        broker = f"redis://127.0.0.1:{free_port()}/0"
        return make_app(broker_url=broker, segment_redis_url=redis_server.url, **conf)

    return make


def store(count, source=None):
    """Store messages in one round trip; return their ids."""
    analytics = Analytics(source) if source else Analytics()
    with analytics.batch():
        return {analytics.track.delay("u", f"E{n}").id for n in range(count)}


def test_everything_is_delivered_without_a_broker(brokerless, server):
    brokerless()
    ids = store(6_000)
    began = time.monotonic()
    assert Analytics().deliver() == 0
    assert time.monotonic() - began < 10, "something waited for the broker"
    assert set(server.received) == ids
    assert server.duplicates == 0
    assert len(server.requests) == 3
    stats = Analytics().stats()
    assert (stats.accepted, stats.delivered.messages, stats.waiting) == (6_000, 6_000, 0)
    assert Analytics().deliver() == 0


def test_a_redis_at_its_maxmemory_is_emptied(brokerless, server, redis):
    app = brokerless(segment_on_full="drop")
    ids = store(3_000)
    redis.config_set("maxmemory", 1)
    store(10)  # which find no room
    said = run(app, "deliver")
    redis.config_set("maxmemory", 0)
    assert (said.stdout, said.exit_code) == ("default: nothing remains\n", 0)
    assert set(server.received) == ids


def test_a_failing_endpoint_is_waited_for(brokerless, server):
    brokerless()
    ids = store(50)
    for reply in (Reply.status(503), Reply.status(429, retry_after=1), Reply.status(500)):
        server.reply(reply)
    assert Analytics().deliver() == 0
    assert set(server.received) == ids
    assert [request.status for request in server.requests] == [503, 429, 500, 200]
    assert server.violations == []


def test_a_bad_message_becomes_a_dead_letter(brokerless, server):
    brokerless()
    store(9)
    bad = track.delay("u", "bad").id
    server.fail_messages(lambda message: message["event"] == "bad")
    assert Analytics().deliver() == 0
    assert Analytics().stats().dead.messages == 1
    assert bad not in server.received
    assert len(set(server.received)) == 9


def test_a_timeout_ends_it_with_what_remains(brokerless, server):
    brokerless()
    store(50)
    server.always(Reply.status(503))
    began = time.monotonic()
    assert Analytics().deliver(timeout=1.0) == 50
    assert 0.9 < time.monotonic() - began < 5
    server.restore()
    Analytics().resume()
    assert Analytics().deliver() == 0


def test_a_dead_workers_batch_is_taken_over(brokerless, server, redis):
    app = brokerless()
    ids = store(5)
    (batch,) = buffer_of(app).claim(1)
    buffer_of(app).begin(batch.id, "of a worker that died")
    assert Analytics().deliver(timeout=0.5) == 5
    let_pass(redis, 200)
    assert Analytics().deliver() == 0
    assert set(server.received) == ids
    assert Analytics().stats().takeovers == 1


def test_a_paused_source_is_left_alone_and_others_are_not(brokerless, server):
    app = brokerless(segment_sources={"marketing": {"write_key": WRITE_KEY}})
    store(2)
    ids = store(3, "marketing")
    Analytics().pause()
    said = run(app, "deliver")
    assert said.exit_code == 1
    assert said.stdout == (
        "default: 2 messages remain: the source is paused;"
        " `celery segment resume --source default` opens it\n"
        "marketing: nothing remains\n"
    )
    assert set(server.received) == ids
    found = json.loads(run(app, "deliver", "--json").stdout)
    assert found == {"default": {"remaining": 2}, "marketing": {"remaining": 0}}


def test_a_refused_write_key_is_not_waited_for(brokerless, server):
    app = brokerless()
    store(2)
    server.always(Reply.status(401))
    said = run(app, "deliver")
    assert said.exit_code == 1
    assert said.stdout.startswith("default: 2 messages remain: the source is closed for 5 s: 401 ")
    server.restore()
    Analytics().resume()
    assert Analytics().deliver() == 0


@pytest.mark.parametrize("is_retried", [False, True])
def test_a_source_without_a_write_key_is_not_waited_for(brokerless, server, is_retried):
    sources = {"marketing": {"write_key": WRITE_KEY}}
    app = brokerless(segment_write_key=None, segment_sources=sources)
    store(2)
    ids = store(3, "marketing")
    if is_retried:
        (batch,) = buffer_of(app).claim(1)
        lease = buffer_of(app).begin(batch.id, "of another worker")
        buffer_of(app).retry(lease, "failure", 600.0, "503", "503", breaker=(5, 1.0, 60.0))
    began = time.monotonic()
    said = run(app, "deliver", "--timeout", "30")
    assert Analytics().deliver(timeout=30) == 2
    assert time.monotonic() - began < 20, "the timeout was used up"
    assert said.exit_code == 1
    assert said.stdout == (
        "default: 2 messages remain: this process has no write key for the source\n"
        "marketing: nothing remains\n"
    )
    assert set(server.received) == ids


def test_a_key_that_is_refused_while_others_deliver_is_tried_once(brokerless, server):
    app = brokerless()
    store(2)
    server.reply(Reply.status(401))
    assert Analytics().deliver() == 2
    Analytics().resume()
    buffer = buffer_of(app)
    (batch,) = buffer.claim(1)
    buffer.ack(buffer.begin(batch.id, "of another worker"), "200")
    store(2)
    server.always(Reply.status(401))
    said = run(app, "deliver", "--timeout", "30")
    assert len(server.requests) == 2
    assert said.stdout == (
        "default: 2 messages remain: this process' write key is refused (401), while others"
        " deliver\n"
    )


def test_hooks_are_called(brokerless):
    heard = []
    brokerless(segment_on_delivered=heard.append)
    ids = store(3)
    assert Analytics().deliver() == 0
    (batch,) = heard
    assert {message["messageId"] for message in batch.contents()} == ids


def test_a_source_that_is_off_has_nothing_to_deliver(brokerless, server):
    app = brokerless(segment_enabled=False)
    track.delay("u", "E")
    assert Analytics().deliver() == 0
    assert run(app, "deliver").stdout == "default: nothing remains\n"
    assert server.requests == []


def test_follow_delivers_what_comes_later_until_it_is_stopped(brokerless, server, tmp_path):
    app = brokerless()
    conf = {k: v for k, v in app.conf.changes.items() if k.startswith(("segment_", "broker_"))}
    environ = {**os.environ, "PYTHONPATH": str(TESTS)}
    environ["TESTS_CONF"] = json.dumps({**DEFAULTS, **conf})
    ids = store(3)
    command = [*(sys.executable, "-m", "celery", "-A", "workerapp"), "segment", "deliver"]
    with subprocess.Popen(
        [*command, "--follow"], env=environ, cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as process:
        wait_until(lambda: set(server.received) == ids)
        ids |= store(2)
        wait_until(lambda: set(server.received) == ids)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
    assert (output, process.returncode) == ("default: nothing remains\n", 0)


def test_flush_within_a_task_does_not_wait_for_itself(make_app, server, workers):
    app = make_app(imports=["celery_segment", "flushingtasks"])
    workers.start(app, pool="solo", processes=1)
    result = app.send_task("tests.track_and_flush", (25,))
    remaining, seconds = wait_until(lambda: server.received and _outcome(app, result))
    assert remaining == 0
    assert seconds < 5
    assert len(set(server.received)) == 25


def test_flush_within_a_task_waits_for_others_without_a_write_key(make_app, server, workers):
    conf = {"imports": ["celery_segment", "flushingtasks"], "segment_write_key": None}
    app = make_app(**conf)
    workers.start(app, pool="solo", processes=1)
    result = app.send_task("tests.track_and_flush", (25,))
    wait_until(lambda: Analytics(app=app).stats().waiting == 25)
    keyed = make_app()
    assert wait_until(lambda: Analytics(app=keyed).deliver(timeout=5) == 0)
    remaining, _ = wait_until(lambda: _outcome(app, result))
    assert remaining == 0
    assert len(set(server.received)) == 25


def _outcome(app, result):
    found = buffer_of(app)._server.execute("GET", f"flushed:{result.id}")
    return found and json.loads(found)


def test_a_proxy_that_is_not_usable_closes_the_source_and_costs_no_retry(make_app, server):
    conf = {"segment_max_retries": 0, "segment_retry_for": 0}
    app = make_app(**conf, segment_proxies={"http": "ftp://proxy"})
    ids = store(3)
    (batch,) = buffer_of(app).claim(1)
    attempt_delivery(buffer_of(app), batch.id)
    stats = Analytics().stats()
    assert (stats.waiting, stats.dead.messages, dict(stats.attempts)) == (3, 0, {})
    assert stats.gate.state == "closed"
    assert "check segment_proxies" in stats.gate.reason
    make_app()
    Analytics().resume()
    assert Analytics().deliver() == 0
    assert set(server.received) == ids
