"""The number of connections is bounded, for threads, greenlets and forked children."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from celery_segment import Analytics, BufferUnavailable, track
from celery_segment.buffer import connect
from celery_segment.buffer.connections import Connections
from celery_segment.testing import EmbeddedRedis
from support import DEFAULTS, TESTS, at_once, buffer_of, in_child, wait_until


def test_forty_threads_share_ten_connections(make_app):
    with EmbeddedRedis(appendonly=False, config={"maxclients": 20}) as own:
        app = make_app(segment_redis_url=own.url, segment_redis_max_connections=10)
        at_once(40, lambda: [track.delay("u", "E") for _ in range(25)])
        assert Analytics(app=app).stats().accepted == 1000
        client = own.client()
        assert client.info("stats")["total_connections_received"] <= 10 + 6
        client.close()
        connections = buffer_of(app)._server._connections
        assert len(connections.idle) + len(connections._room) == 10


class Held:
    """Callers who hold all connections of a pool until they are released."""

    def __init__(self, pool, count):
        self.released, held = threading.Event(), threading.Barrier(count + 1)

        def hold(connection, command):
            held.wait()
            self.released.wait()
            return connection.exchange(command)

        def call():
            pool._exchange(b"PING\r\n", how=hold)

        self._threads = [threading.Thread(target=call) for _ in range(count)]
        for thread in self._threads:
            thread.start()
        held.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.released.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def pool(redis_server):
    pool = connect(redis_server.url, 0.6, max_connections=2).server("")
    yield pool
    pool.close()


def test_a_caller_beyond_them_waits_and_then_fails(pool):
    with Held(pool, 2):
        began = time.monotonic()
        with pytest.raises(BufferUnavailable, match="segment_redis_max_connections"):
            pool.execute("PING")
        assert 0.2 < time.monotonic() - began < 0.6
    assert pool.execute("PING") == b"PONG"
    assert not pool._connections.waiters


def test_a_caller_who_waits_gets_the_first_that_is_given_back(pool):
    answers = []
    with Held(pool, 2) as held:
        thread = threading.Thread(target=lambda: answers.append(pool.execute("PING")))
        thread.start()
        wait_until(lambda: pool._connections.waiters)
        held.released.set()
        thread.join()
    assert answers == [b"PONG"]
    assert len(pool._connections.idle) == 2


def test_a_connection_that_cannot_be_made_leaves_its_room():
    pool = connect("redis://127.0.0.1:1/0", 0.5, max_connections=2).server("")
    for _ in range(5):
        with pytest.raises(BufferUnavailable, match="unreachable"):
            pool.execute("PING")
    assert len(pool._connections._room) == 2


def test_a_child_that_is_forked_while_all_are_in_use_has_its_own(pool):
    with Held(pool, 2):
        assert in_child(lambda: pool.execute("PING") == b"PONG")


GREENLETS = {
    "gevent": """
from gevent import monkey; monkey.patch_all()
import gevent
def run(work, count):
    gevent.joinall([gevent.spawn(work) for _ in range(count)], raise_error=True)
""",
    "eventlet": """
import warnings; warnings.simplefilter("ignore")
import eventlet; eventlet.monkey_patch()
def run(work, count):
    [thread.wait() for thread in [eventlet.spawn(work) for _ in range(count)]]
""",
}
WORK = """
import json, os, time
from support import buffer_of, new_app
from celery_segment import Analytics, track
app = new_app(json.loads(os.environ["TESTS_CONF"]))
app.set_default()
def work():
    app.set_current()
    for _ in range(10):
        track.delay("u", "E")
run(work, 40)
own = buffer_of(app)._server._connections
assert len(own.idle) + len(own._room) == 5, own.idle
for connection in own.idle:
    connection.since -= 5
run(work, 10)
print(Analytics(app=app).stats().accepted)
"""


@pytest.mark.parametrize("kind", ["gevent", "eventlet"])
def test_greenlets_share_them_and_find_them_idle(redis, redis_server, kind):
    if importlib.util.find_spec(kind) is None:
        pytest.skip(f"{kind} is not installed")
    conf = {
        **DEFAULTS,
        "broker_url": redis_server.url,
        "segment_redis_max_connections": 5,
        "segment_redis_timeout": 5.0,
    }
    before = redis.info("stats")["total_connections_received"]
    done = subprocess.run(
        [sys.executable, "-c", GREENLETS[kind] + WORK],
        env={**os.environ, "TESTS_CONF": json.dumps(conf), "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.split() == ["500"], done.stderr
    assert redis.info("stats")["total_connections_received"] - before <= 5 + 5


@pytest.mark.parametrize("given", [False, True], ids=["while it waits", "once it was served"])
def test_a_wait_that_is_interrupted_takes_no_room_and_makes_none(given):
    def interrupt(*_):
        if given:
            connections.free()
        raise KeyboardInterrupt

    connections = Connections(1, 0.0)
    assert connections.wait(1) is None, "one may be made"
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(KeyboardInterrupt):
            connections.wait(10)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not connections.waiters
    if not given:
        with pytest.raises(TimeoutError):
            connections.wait(0.01)
        connections.free()
    assert connections.wait(1) is None
    with pytest.raises(TimeoutError):
        connections.wait(0.01)


def test_the_place_of_a_connection_that_failed_goes_to_who_waits():
    connections = Connections(1, 0.0)
    assert connections.wait(1) is None, "one may be made"
    failure = threading.Timer(0.05, connections.free)
    failure.start()
    assert connections.wait(5) is None
    failure.join()
