"""The library as a guest: what its host's broker, memory, workers and tasks feel of it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from contextlib import closing

import pytest

from celery_segment import Analytics, BufferFull, track
from celery_segment.testing import EmbeddedRedis, Reply
from chaos.application import runs, work
from chaos.proxy import Proxy
from chaos.tasks import p95
from support import DEFAULTS, TESTS, wait_until

#: The application has a task of its own, of 10 ms.
HOST = {"imports": [*DEFAULTS["imports"], "chaos.application"]}
#: Bytes that Redis has above what the idle system uses.
ROOM = 12 << 20


def publish(count, every=0.0, also=lambda: None):
    """Publish so many of the application's tasks; return when each was."""
    published, due = {}, time.monotonic()
    for number in range(count):
        time.sleep(max(due - time.monotonic(), 0))
        due += every
        also()
        name = f"task-{time.monotonic_ns()}-{number}"
        published[name] = time.monotonic()
        work.apply_async((name,), task_id=name)
    return published


def waits(published, folder, timeout=20.0):
    """Wait until all tasks have run, and return for how long each waited to begin."""
    wait_until(lambda: published.keys() <= runs(folder).keys(), timeout, "tasks did not run")
    began = runs(folder)
    return sorted(began[name][0] - at for name, at in published.items())


def call_until_refused(timeout=20.0):
    """Track large messages until a call is refused; return those that were accepted."""
    accepted, deadline = set(), time.monotonic() + timeout
    while time.monotonic() < deadline:
        # Random, so that packing a backlog makes little room.
        properties = {"text": base64.b64encode(os.urandom(22_000)).decode()}
        try:
            with Analytics().batch():
                ids = {track.delay("u", "E", properties).id for _ in range(8)}
        except BufferFull:
            return accepted
        accepted |= ids
    raise AssertionError("no call was refused")


#: Makes calls when it is told to: how many, seconds between two, a countdown of each.
CALLER = """
import json, os, sys, time
from support import new_app
from celery_segment import track
app = new_app(json.loads(os.environ["TESTS_CONF"]))
app.set_current()
for line in sys.stdin:
    count, every, options = json.loads(line)
    for number in range(count):
        track.apply_async(("u", f"E{number}"), **options)
        time.sleep(every)
    print("done", flush=True)
"""


class Caller:
    """A process of the application, with its own way to the broker."""

    def __init__(self, app, broker):
        conf = {k: v for k, v in app.conf.changes.items() if k.startswith("segment_")}
        conf = {**DEFAULTS, **conf, "broker_url": f"redis://127.0.0.1:{broker.port}/0"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", CALLER],
            env={**os.environ, "TESTS_CONF": json.dumps(conf), "PYTHONPATH": str(TESTS)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.communicate()

    def call(self, count, every=0.0, **options):
        """Have it make calls, and wait until it has."""
        self._process.stdin.write(json.dumps([count, every, options]) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"


@pytest.fixture
def own():
    """A Redis beside the session's; without a file, whose rewriting takes memory as well."""
    with EmbeddedRedis(appendonly=False) as own:
        yield own


def test_full_redis_leaves_the_application_its_room(make_app, server, own, workers, tmp_path):
    conf = {"segment_flush_interval": 0.5, "segment_lease": 4.0, "segment_timeout": 3.0}
    app = make_app(**HOST, **conf, broker_url=own.url)
    worker = workers.start(app, processes=1)
    with closing(own.client()) as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"] + ROOM)
    server.always(Reply.status(503))
    ids = call_until_refused()
    assert len(ids) > 100

    waits(publish(100), tmp_path)
    assert worker.process.poll() is None, "it ended by itself"
    worker.kill()
    ids |= call_until_refused()  # where packing has made room
    workers.start(app, processes=1)
    waits(publish(100), tmp_path)

    server.restore()
    Analytics().resume()
    assert Analytics().flush(30) == 0
    assert set(server.received) == ids
    track.delay("u", "there is room again")


def test_hanging_endpoint_leaves_the_application_its_processes(make_app, server, workers, tmp_path):
    def messages():
        for _ in range(5):
            track.delay("u", "E")

    workers.start(make_app(**HOST), processes=2)
    server.always(Reply.hang(15))
    messages()
    assert server.wait_for(lambda: server.requests, timeout=10)
    found = waits(publish(100, every=0.05, also=messages), tmp_path)
    assert p95(found) <= 0.2, found


def test_calls_send_nothing_to_the_broker(make_app, own, redis_server, server, workers):
    app = make_app(
        broker_url=own.url, segment_redis_url=redis_server.url, segment_flush_interval=0.5
    )
    workers.start(app, processes=1)
    with Proxy(own.port) as broker, Caller(app, broker) as caller:
        caller.call(200, every=0.02)
        assert server.wait_for_messages(200, timeout=10)
        assert broker.connections == 0
        caller.call(1, countdown=0.1)  # which Celery keeps
        assert broker.connections > 0
        assert server.wait_for_messages(201, timeout=20)


def test_frozen_buffer_does_not_hold_the_worker(make_app, own, server, workers, tmp_path):
    app = make_app(**HOST, segment_redis_url=own.url, segment_flush_interval=0.5)
    workers.start(app)
    server.always(Reply.status(503))
    ids = {track.delay("u", f"E{number}").id for number in range(50)}
    assert server.wait_for(lambda: server.requests, timeout=10)
    own.pause()
    server.restore()
    published = {}
    for _ in range(6):
        assert app.control.ping(timeout=1.0, limit=1), "the worker does not answer"
        published |= publish(10, every=0.1)
    found = waits(published, tmp_path)
    own.resume()
    assert p95(found) <= 0.3, found
    assert server.wait_for_messages(50, timeout=20)
    assert set(server.received) == ids
