"""A primary of a cluster, or one that Sentinels watch, is killed under calls and deliveries.

Run by hand, SEGMENT_TEST_REPLICAS=0 counts what is lost where calls wait for no replica.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from celery_segment import SegmentError, track
from support import wait_until
from topologies import Cluster, Sentinels

THREADS, RATE = 8, 500.0
TAG = "{segment:default}"
REPLICAS = int(os.environ.get("SEGMENT_TEST_REPLICAS", "1"))
#: Seconds of calls before the kill, and after calls succeed again.
BEFORE, AFTER = 1.0, 1.0
#: Seconds for which the primary that is killed had no replicas.
CUT_OFF = 0.2


class Calls:
    """Calls of several threads, until they are told to end.

    Attributes:
        accepted: The ids of the messages whose calls returned.
        refused: When calls failed.
    """

    def __init__(self):
        self.accepted, self.refused = [], []
        self._start, self._ended = time.monotonic(), threading.Event()
        self._numbers = iter(range(10**9))
        self._threads = [threading.Thread(target=self._run) for _ in range(THREADS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self):
        while not self._ended.is_set():
            due = self._start + next(self._numbers) / RATE
            time.sleep(max(due - time.monotonic(), 0))
            try:
                self.accepted.append(track.delay("u", "E").id)
            except SegmentError:
                self.refused.append(time.monotonic())


@pytest.fixture(params=["cluster", "sentinels"])
def servers(request):
    made = {
        "cluster": Cluster(replicas=1, timeout=1_000),
        "sentinels": Sentinels(replicas=2, down_after=600),
    }
    with made[request.param] as servers:
        yield servers


def report(text):
    if path := os.environ.get("SEGMENT_TEST_REPORT"):
        with Path(path).open("a") as file:
            file.write(f"{text} after there was a primary\n")


def kill(primary):
    """Kill a primary that has lost its replicas a moment ago, as in a network that breaks."""
    client = primary.client()
    client.config_set("requirepass", "unknown to the replicas")
    client.client_kill_filter(_type="replica")
    time.sleep(CUT_OFF)  # calls and deliveries go on
    primary.kill()
    client.close()


def replace(servers):
    """Kill the primary of the default source; return when another has taken its place."""
    if isinstance(servers, Cluster):
        old = servers.primary_of(TAG)
        kill(old)
        wait_until(lambda: servers.primary_of(TAG, but=[old.port]) is not old)
        well = time.monotonic()
        old.start()  # there is no other replica
    else:
        old = servers.primary
        kill(old)
        wait_until(lambda: servers.primary.port != old.port)
        well = time.monotonic()
    return well


def test_nothing_is_lost_that_a_replica_has_confirmed(
    make_app, server, workers, servers, redis_server
):
    app = make_app(
        segment_redis_url=servers.url,
        broker_url=redis_server.url,
        segment_wait_replicas=REPLICAS,
    )
    workers.start(app)
    with Calls() as calls:
        wait_until(lambda: len(calls.accepted) > RATE * BEFORE)
        well = replace(servers)
        before = len(calls.accepted)
        wait_until(lambda: len(calls.accepted) > before + RATE * AFTER)
    assert calls.refused, "the kill was not noticed"
    accepted = {*calls.accepted}
    wait_until(lambda: accepted <= {*server.received} or time.monotonic() > well + 20, timeout=30)
    lost = accepted - {*server.received}
    later = max(calls.refused) - well
    report(f"{len(lost)} of {len(accepted):,} lost; {len(calls.refused):,} refused, {later:.2f} s")
    assert not lost or not REPLICAS
