"""The connection to Redis breaks between a command, which is carried out, and its reply."""

from __future__ import annotations

import time

import pytest

from celery_segment import Analytics, BufferUnavailable, track
from celery_segment.buffer import Lease, messages_of
from celery_segment.buffer.appends import Appends
from celery_segment.testing import EmbeddedRedis
from chaos.proxy import Proxy
from support import buffer_of, let_pass, wait_until


@pytest.fixture
def proxy(redis_server):
    with Proxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
def app(make_app, proxy):
    app = make_app(
        segment_redis_url=f"redis://127.0.0.1:{proxy.port}/0", segment_flush_interval=0.5
    )
    track.delay("u", "the connection is made, the scripts are loaded")
    return app


def cut(proxy, operation):
    """Lose the reply to an operation, and return what it returned."""
    lost = proxy.lost
    proxy.cut(1)
    wait_until(lambda: proxy._left == 1)
    result = operation()
    assert proxy.lost == lost + 1
    return result


def test_a_call_is_stored_once(app, proxy):
    result = cut(proxy, lambda: track.delay("u", "E"))
    assert Analytics().stats().accepted == 2
    (message,) = [
        bytes(m)
        for m in messages_of(buffer_of(app)._server.execute("GET", "{segment:default}:open"))
        if result.id.encode() in bytes(m)
    ]
    assert b'"event":"E"' in message


def test_a_call_that_sealed_the_batch_is_stored_once(make_app, proxy):
    make_app(segment_redis_url=f"redis://127.0.0.1:{proxy.port}/0", segment_max_batch_messages=2)
    for _ in range(2):
        track.delay("u", "E")
    cut(proxy, lambda: track.delay("u", "E"))
    assert Analytics().stats().accepted == 3


def test_many_calls_are_stored_once(app, proxy):
    def batch():
        with Analytics().batch():
            for number in range(50):
                track.delay("u", f"E{number}")

    cut(proxy, batch)
    assert Analytics(app=app).stats().accepted == 51


def test_only_the_batches_that_may_hold_a_message_are_searched_for_it(app, redis):
    big = b'{"x":"%s"}' % (b"x" * 30_000)
    buffer_of(app).append_many([big] * 150)
    assert buffer_of(app).admin.snapshot().ready.batches == 9
    let_pass(redis, 5)
    before = redis.info("commandstats")["cmdstat_get"]["calls"]
    appends = Appends(buffer_of(app)._server, buffer_of(app).source)
    assert not appends._is_stored(b"{},", time.monotonic())
    assert redis.info("commandstats")["cmdstat_get"]["calls"] - before <= 2


def test_a_holder_that_did_not_hear_so_holds(app, proxy):
    buffer = buffer_of(app)
    (batch,) = buffer.claim(1)
    held = cut(proxy, lambda: buffer.begin(batch.id, "t1"))
    assert isinstance(held, Lease)
    assert (held.count, held.requests) == (1, 0)
    buffer.ack(held)


def test_an_ack_that_was_not_heard_is_not_taken_for_a_stale_one(app, proxy, server, monkeypatch):
    from celery_segment.delivery.attempt import attempt_delivery, transport

    buffer = buffer_of(app)
    (batch,) = buffer.claim(1)
    real = transport.post

    def post(*args):
        answer = real(*args)
        proxy.cut(1)
        wait_until(lambda: proxy._left == 1)
        return answer

    monkeypatch.setattr(transport, "post", post)
    assert attempt_delivery(buffer, batch.id).text == "already settled, while Redis was unavailable"
    assert buffer.admin.snapshot().delivered.messages == 1
    assert server.duplicates == 0


def test_an_operation_that_may_run_once_only_says_so(app, proxy):
    buffer = buffer_of(app)
    buffer.check_rights()
    buffer.due(1.0)
    with pytest.raises(BufferUnavailable, match="may have been carried out"):
        cut(proxy, lambda: buffer.claim(1))
    assert buffer.admin.snapshot().inflight.batches == 1


def test_an_idle_connection_that_was_closed_is_noticed_before_it_is_used(make_app):
    with EmbeddedRedis() as own:
        app = make_app(segment_redis_url=own.url)
        track.delay("u", "E")
        own.stop()
        own.restart()
        buffer = buffer_of(app)
        pool = buffer._server._connections
        (connection,) = pool.idle
        connection.since -= 60
        track.delay("u", "E")
        assert pool.idle[-1] is not connection
        assert buffer.admin.snapshot().accepted == 2


def test_a_broker_that_hangs_costs_a_call_a_second(make_app, redis_server):
    with EmbeddedRedis(appendonly=False) as broker:
        make_app(broker_url=broker.url, segment_redis_url=redis_server.url, segment_flush_at=1)
        track.delay("u", "the broker's connection is made")
        buffer_of(Analytics().app).claim(1)
        broker.pause()
        try:
            started = time.monotonic()
            for number in range(20):
                track.delay("u", f"E{number}")
            assert time.monotonic() - started < 1.5
        finally:
            broker.resume()
