"""A failover of the buffer's Redis behind one address, while web and worker are at work."""

from __future__ import annotations

import threading
import time

import pytest

from celery_segment import Analytics, SegmentError, track
from celery_segment.testing import EmbeddedRedis
from front import Front
from support import wait_until

THREADS, CALLS, RATE = 8, 600, 100.0
#: A call that waits is one of these: the rest take some hundred microseconds.
SLOW = 0.2


@pytest.fixture
def pair():
    """A primary, its replica, and a front to the primary."""
    with EmbeddedRedis() as one, EmbeddedRedis() as two, Front(one.port) as front:
        client = two.client()
        client.replicaof("127.0.0.1", one.port)
        wait_until(lambda: client.info("replication")["master_link_status"] == "up")
        client.close()
        yield one, two, front


def fail_over(one, two, front):
    """Promote the replica without loss, and have the front lead to it.

    Connections to the old primary stay: it answers READONLY from now on.

    Returns:
        The times at which it began and at which the server was well.
    """
    began, client = time.monotonic(), one.client()
    client.execute_command("FAILOVER", "TO", "127.0.0.1", two.port, "TIMEOUT", 5_000)
    wait_until(lambda: client.info("replication")["role"] == "slave")
    front.target = two.port
    client.close()
    return began, time.monotonic()


def test_web_and_worker_leave_the_demoted_primary(make_app, server, workers, pair, redis_server):
    one, two, front = pair
    app = make_app(segment_redis_url=front.url, broker_url=redis_server.url)
    worker = workers.start(app)
    numbers, calls, start = iter(range(CALLS)), [], time.monotonic()
    lock = threading.Lock()

    def make_calls():
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            time.sleep(max(start + number / RATE - time.monotonic(), 0))
            began, error = time.monotonic(), None
            try:
                track.delay("u", "E", message_id=str(number))
            except SegmentError as caught:
                error = caught
            thread, took = threading.get_ident(), time.monotonic() - began
            calls.append((str(number), thread, began, took, error))

    threads = [threading.Thread(target=make_calls) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(calls) > CALLS / 3)
    began, well = fail_over(one, two, front)
    for thread in threads:
        thread.join()
    refused = [str(error) for *_, at, _, error in calls if error and at > well]
    assert not refused, f"{len(refused)} calls were refused by a server that is well"
    slow = [thread for _, thread, at, took, _ in calls if took > SLOW and at > began - 1]
    assert all(slow.count(thread) <= 1 for thread in slow)
    accepted = {number for number, *_, error in calls if error is None}
    unknown = {number for number, *_, error in calls if error and error.unknown}
    assert server.wait_for(lambda: set(server.received) >= accepted, timeout=20)
    wait_until(lambda: Analytics().stats().waiting == 0)
    assert set(server.received) <= accepted | unknown
    assert server.duplicates == 0
    assert worker.process.poll() is None
