"""Connections that were idle, forgotten by a balancer, or to a Redis that does not answer."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from celery_segment import Analytics, BufferUnavailable, track
from celery_segment.buffer import connect
from celery_segment.delivery.outcome import Delivered
from celery_segment.delivery.settle import Posted, settle_patiently
from celery_segment.runtime import runtime_of
from celery_segment.testing import EmbeddedRedis
from front import Front
from support import at_once, buffer_of, in_child, wait_until


@pytest.fixture
def front(redis_server):
    with Front(redis_server.port) as front:
        yield front


@pytest.fixture
def frozen(make_app):
    """An application whose Redis stands still, once it has answered a call."""
    with EmbeddedRedis(appendonly=False) as server:
        app = make_app(segment_redis_url=server.url)
        track.delay("u", "before")
        server.pause()
        yield app, server
        server.resume()


def seconds(call):
    began = time.monotonic()
    call()
    return time.monotonic() - began


def connections_of(app):
    return buffer_of(app)._server._connections


def fill(app, count):
    """Leave so many idle connections behind."""
    own, barrier = connections_of(app), threading.Barrier(count)
    pool = buffer_of(app)._server

    def hold(connection, command):
        barrier.wait()
        return connection.exchange(command)

    at_once(count, lambda: pool._exchange(b"PING\r\n", how=hold))
    assert len(own.idle) == count


def make_old(app, by=60.0):
    for connection in connections_of(app).idle:
        connection.since -= by


class TestForgotten:
    def test_connections_that_were_idle_cost_one_slow_call(self, make_app, front):
        app = make_app(segment_redis_url=front.url, segment_redis_timeout=2.0)
        track.delay("u", "before")
        fill(app, 8)
        make_old(app, 5)
        front.forget()
        took = [seconds(lambda: track.delay("u", "E")) for _ in range(20)]
        assert sum(each > 0.4 for each in took) == 1
        assert max(took) < 2.0
        assert Analytics(app=app).stats().accepted == 21

    def test_threads_at_once_have_one_slow_call_between_them(self, make_app, front):
        app = make_app(segment_redis_url=front.url, segment_redis_timeout=2.0)
        track.delay("u", "before")
        fill(app, 8)
        make_old(app, 5)
        front.forget()
        took = at_once(8, lambda: seconds(lambda: track.delay("u", "E")))
        assert sum(each > 0.4 for each in took) == 1
        assert Analytics(app=app).stats().accepted == 9

    def test_connections_in_use_are_left_at_the_first_time_out(self, make_app, front):
        app = make_app(segment_redis_url=front.url, segment_redis_timeout=2.0)
        track.delay("u", "before")
        fill(app, 8)
        front.forget()
        took = [seconds(lambda: track.delay("u", "E")) for _ in range(20)]
        assert sum(each > 0.4 for each in took) == 1
        assert max(took) < 2.0
        assert Analytics(app=app).stats().accepted == 21

    def test_keepalive_is_on(self, app):
        track.delay("u", "E")
        sock = connections_of(app).idle[0]._sock
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30


class TestFrozen:
    def test_eight_threads_wait_once(self, frozen):
        app, server = frozen
        failures = []

        def calls():
            for _ in range(7):
                with pytest.raises(BufferUnavailable) as caught:
                    track.delay("u", "E")
                failures.append(str(caught.value))

        assert seconds(lambda: at_once(8, calls)) < 1.9
        assert len(failures) == 56
        asked = [text for text in failures if "was not asked" not in text]
        assert 1 <= len(asked) <= 8 + 3
        server.resume()
        wait_until(lambda: _stored(app))

    def test_one_caller_a_second_tries(self, frozen):
        app, _ = frozen
        with pytest.raises(BufferUnavailable):
            track.delay("u", "E")
        slow, until = 0, time.monotonic() + 3.2
        while time.monotonic() < until:
            took = at_once(4, lambda: seconds(lambda: _fails(app)))
            # Who tries waits for as long as segment_redis_timeout says.
            slow += sum(each > 0.4 for each in took)
        assert 1 <= slow <= 3

    def test_the_first_call_after_it_went_on_succeeds(self, frozen):
        app, server = frozen
        for _ in range(2):
            at_once(4, lambda: _fails(app))
            assert connections_of(app).is_resting
            server.resume()
            with server.client() as client:
                assert client.ping()
            # It answers whoever asked before.
            at_once(4, lambda: track.delay("u", "at once"))
            assert not connections_of(app).is_resting
            server.pause()

    def test_the_end_of_a_connection_has_the_next_call_try(self, frozen):
        app, server = frozen
        _fails(app)
        server.kill()
        server.start()
        track.delay("u", "at once")

    def test_one_connection_waits_for_its_answer(self, frozen):
        app, _ = frozen
        for _ in range(3):
            at_once(4, lambda: _fails(app))
            wait_until(lambda: connections_of(app)._turns[0] < time.monotonic())
        assert connections_of(app)._unanswered is not None
        runtime_of(app).topology.close()
        assert connections_of(app)._unanswered is None

    def test_nothing_of_a_call_that_waits_for_a_new_connection_is_stored(self, frozen):
        app, server = frozen
        _fails(app)  # its connection had been used: Redis may carry it out
        for _ in range(2):
            wait_until(lambda: connections_of(app)._turns[0] < time.monotonic())
            _fails(app)
        server.resume()
        wait_until(lambda: _stored(app))
        assert Analytics(app=app).stats().accepted <= 3

    @pytest.mark.parametrize(
        "conf",
        [{}, {"segment_lease": 2.0, "segment_timeout": 1.0, "segment_redis_timeout": 0.2}],
        ids=["", "short lease"],
    )
    def test_a_workers_outcome_is_recorded_once_it_answers(self, make_app, conf):
        with EmbeddedRedis(appendonly=False) as server:
            app = make_app(segment_redis_url=server.url, **conf)
            track.delay("u", "E")
            buffer = buffer_of(app)
            (batch,) = buffer.claim(1)
            lease = buffer.begin(batch.id, "t1")
            server.pause()
            posted = Posted(Delivered(200), "200", 0.1)
            thread = threading.Thread(target=settle_patiently, args=(buffer, lease, posted))
            thread.start()
            wait_until(lambda: connections_of(app).is_resting)
            server.resume()
            thread.join()
            assert buffer.admin.snapshot().delivered.messages == 1

    def test_a_refused_connection_is_tried_by_each_call(self, make_app):
        with EmbeddedRedis(appendonly=False) as server:
            app = make_app(segment_redis_url=server.url)
            track.delay("u", "before")
            server.kill()
            for _ in range(3):
                _fails(app)
            server.start()
            track.delay("u", "at once")

    def test_the_workers_tick_tries_by_rules_of_its_own(self, frozen):
        app, _ = frozen
        pool = runtime_of(app).connect(0.2).server("")
        for _ in range(2):
            with pytest.raises(BufferUnavailable, match="did not answer in time"):
                pool.execute("PING")
        pool.close()


def _fails(app):
    app.set_current()
    with pytest.raises(BufferUnavailable):
        track.delay("u", "E")


def _stored(app):
    try:
        buffer_of(app).append(b'{"messageId":"m"}')
    except BufferUnavailable:
        return False
    return True


class TestAge:
    def test_idle_connections_beyond_a_few_are_closed(self, app, redis):
        track.delay("u", "E")
        before = len(redis.client_list())
        fill(app, 8)
        make_old(app)
        connections_of(app).ages_at = 0.0
        track.delay("u", "E")
        assert len(connections_of(app).idle) <= 3
        wait_until(lambda: len(redis.client_list()) <= before + 2)
        assert len(connections_of(app)._room) == 50 - len(connections_of(app).idle)

    def test_a_child_has_none_of_its_parents(self, app):
        track.delay("u", "E")
        fill(app, 3)
        assert in_child(lambda: buffer_of(app)._server._own().idle.__len__() == 0)
        assert in_child(lambda: track.delay("u", "E").id)
        assert all(connection.is_alive(1.0) for connection in connections_of(app).idle)


def test_a_url_of_a_socket_takes_no_options_of_tcp(tmp_path):
    path = tmp_path / "redis.sock"
    with EmbeddedRedis(appendonly=False, config={"unixsocket": str(path)}):
        pool = connect(f"unix://{path}", 1.0).server("")
        assert pool.execute("PING") == b"PONG"
        pool.close()
