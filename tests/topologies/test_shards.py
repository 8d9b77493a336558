"""A source over four shards of a cluster of three primaries, while workers are killed.

``SEGMENT_TEST_EVENTS=1000000`` tracks so many events.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from celery_segment import Analytics
from celery_segment.buffer.keys import prefix_of
from celery_segment.runtime import runtime_of
from celery_segment.testing import Reply, SegmentServer
from support import DEFAULTS, TESTS, wait_until
from topologies import Cluster

EVENTS = int(os.environ.get("SEGMENT_TEST_EVENTS", "100000"))
PROCESSES, WORKERS = 4, 2
#: Seconds between two kills, and until an answer.
KILL_EVERY = 5.0 if EVENTS >= 1_000_000 else 1.0
ANSWER = 0.1


class Order:
    """Whether each user's events arrive in the order of their numbers, from 1 on."""

    def __init__(self):
        self.last = Counter()
        self.overtaken = []

    def note(self, request):
        for message_id in request.message_ids if request.accepted else ():
            user, _, number = message_id.partition(":")
            if int(number) > self.last[user] + 1:
                self.overtaken.append(message_id)
            self.last[user] = max(self.last[user], int(number))


@pytest.fixture(scope="module")
def cluster():
    with Cluster(primaries=3, config={"maxmemory": 0}) as servers:
        yield servers


def produce(conf):
    """Start the processes that call."""
    environ = {**os.environ, "TESTS_CONF": json.dumps({**DEFAULTS, **conf})}
    environ["PYTHONPATH"] = str(TESTS)
    command = [sys.executable, "-m", "numbered"]
    each = str(EVENTS // PROCESSES)
    return [
        subprocess.Popen([*command, str(number), each], env=environ, stdout=subprocess.DEVNULL)
        for number in range(PROCESSES)
    ]


def report(text):
    if path := os.environ.get("SEGMENT_TEST_REPORT"):
        with Path(path).open("a") as file:
            file.write(f"{text}\n")


@pytest.mark.parametrize("ordered", [False, True], ids=["in turn", "ordered"])
def test_nothing_is_lost_though_workers_are_killed(
    make_app, workers, cluster, redis_server, ordered
):
    for server in cluster.servers.values():
        server.client().flushall()
    order = Order()
    with SegmentServer(record="ids", on_request=order.note) as server:
        server.always(Reply.slow(ANSWER))
        conf = {
            "broker_url": redis_server.url,
            "segment_redis_url": cluster.url,
            "segment_host": server.url,
            "segment_shards": 4,
            "segment_ordered": ordered,
            "segment_timeout": 1.0,
            "segment_lease": 2.0,
        }
        app = make_app(**conf)
        began = time.monotonic()
        producers = produce(conf)
        kills = kill_workers(app, workers, server)
        assert [each.wait(600) for each in producers] == [0] * PROCESSES
        took = time.monotonic() - began
        total = EVENTS // PROCESSES * PROCESSES
        wait_until(lambda: len(server.received) == total, timeout=max(60, EVENTS / 1_000))
        done = time.monotonic() - began
        kills.set()
        assert Analytics(app=app).flush(60) == 0
        twice = server.received.total() - len(server.received)
        assert server.violations == []
    figures = Analytics(app=app).stats()
    assert (figures.accepted, figures.delivered.messages, figures.dead.messages) == (
        total,
        total,
        0,
    )
    shards = runtime_of(app).shards("default")
    parts = [shard.admin.snapshot().accepted for shard in shards]
    homes = Counter(cluster.primary_of(prefix_of(shard.source)).port for shard in shards)
    assert sorted(homes.values()) == [1, 1, 2]
    assert min(parts) > total / 8
    assert kills.count > 0
    if ordered:
        assert order.overtaken == []
    report(
        f"{total:,} events, {'ordered' if ordered else 'in turn'}: 0 lost, {twice:,} twice,"
        f" {kills.count} kills, {len(order.overtaken):,} overtaken; calls {took:.0f} s,"
        f" delivered after {done:.0f} s; shards {parts}"
    )


class Kills(threading.Thread):
    """Kills a worker every five seconds, and starts another one."""

    def __init__(self, app, workers):
        super().__init__(daemon=True)
        self._app, self._workers = app, workers
        self._done = threading.Event()
        self._at_work = [self._start() for _ in range(WORKERS)]
        self.count = 0

    def _start(self):
        return self._workers.start(self._app, processes=2)

    def run(self):
        for turn in itertools.cycle(range(WORKERS)):
            if self._done.wait(KILL_EVERY):
                return
            self._at_work[turn].kill()
            self.count += 1
            self._at_work[turn] = self._start()

    def set(self):
        """Kill no more."""
        self._done.set()
        self.join()


def kill_workers(app, workers, server):
    kills = Kills(app, workers)
    wait_until(lambda: server.received)
    kills.start()
    return kills
