"""Each of Celery's pools, at the ends that its workers come to while messages are delivered."""

from __future__ import annotations

import signal

import pytest

from celery_segment import Analytics, track
from celery_segment.testing import Reply
from support import wait_until

POOLS = ["prefork", "threads", "gevent", "eventlet", "solo"]
#: The most batches that are delivered at the same time, and the messages of each.
INFLIGHT, BATCH = 8, 10
#: Seconds of a lease, after which the batches of a worker that is gone are taken over.
LEASE = 3
TOTAL = 400


@pytest.fixture
def app(make_app, server):
    server.rule(lambda _: Reply.slow(0.05))
    return make_app(
        segment_max_batch_messages=BATCH,
        segment_max_inflight=INFLIGHT,
        segment_lease=LEASE,
        segment_timeout=LEASE - 1,
    )


def store(count=TOTAL):
    with Analytics().batch():
        return {track.delay("u", f"E{n}").id for n in range(count)}


def check_all(server, ids, doubled=0):
    """Check that no message is lost, and at most so many are doubled."""
    assert Analytics().flush(40) == 0
    assert set(server.received) == ids
    assert server.duplicates <= doubled
    assert server.violations == []
    stats = Analytics().stats()
    assert stats.accepted == stats.delivered.messages == len(ids)
    assert stats.waiting == 0


@pytest.mark.parametrize("pool", POOLS)
def test_a_pool_delivers_while_calls_are_made(app, server, workers, pool):
    workers.start(app, pool=pool, processes=4)
    ids = {track.delay("u", f"E{n}").id for n in range(TOTAL)}
    ids |= {track.apply_async(("u", "late"), countdown=0.5).id for _ in range(10)}
    assert server.wait_for_messages(TOTAL + 10, timeout=40)
    check_all(server, ids)


@pytest.mark.parametrize("pool", POOLS)
def test_a_warm_shutdown_repeats_nothing(app, server, workers, pool):
    ids = store()
    worker = workers.start(app, pool=pool, processes=4)
    assert server.wait_for_messages(50, timeout=20)
    assert worker.stop() == 0
    assert Analytics().stats().waiting > 0, "all was delivered too soon to tell"
    workers.start(app, pool=pool, processes=4)
    check_all(server, ids)


@pytest.mark.parametrize("pool", POOLS)
def test_a_cold_shutdown_loses_nothing(app, server, workers, pool):
    ids = store()
    worker = workers.start(app, pool=pool, processes=4)
    assert server.wait_for_messages(50, timeout=20)
    worker.process.send_signal(signal.SIGQUIT)
    worker.process.wait(20)
    workers.start(app, pool=pool, processes=4)
    # The requests that it broke off may have been received.
    check_all(server, ids, INFLIGHT * BATCH)


@pytest.mark.parametrize("pool", POOLS)
def test_a_kill_loses_nothing(app, server, workers, pool):
    ids = store()
    worker = workers.start(app, pool=pool, processes=4)
    assert server.wait_for_messages(50, timeout=20)
    worker.kill()
    workers.start(app, pool=pool, processes=4)
    check_all(server, ids, INFLIGHT * BATCH)


# Greenlets go on with further batches until the time is up; a solo worker's one task waits with it.
@pytest.mark.parametrize(
    ("pool", "doubled"),
    [("prefork", 0), ("threads", 0), ("gevent", INFLIGHT), ("eventlet", INFLIGHT), ("solo", 1)],
)
def test_a_soft_shutdown_ends_what_is_under_way(app, server, workers, pool, doubled):
    ids = store()
    worker = workers.start(app, pool=pool, processes=4, worker_soft_shutdown_timeout=2)
    assert server.wait_for_messages(50, timeout=20)
    worker.process.send_signal(signal.SIGQUIT)
    worker.process.wait(20)
    workers.start(app, pool=pool, processes=4)
    check_all(server, ids, doubled * BATCH)


# Celery's pool of threads has no way to grow, and a solo worker has one process.
@pytest.mark.parametrize("pool", ["prefork", "gevent", "eventlet"])
def test_an_autoscaled_pool_grows_and_shrinks(app, server, workers, pool):
    worker = workers.start(app, "--autoscale", "6,1", pool=pool)
    ids = store()
    check_all(server, ids)
    wait_until(lambda: "Scaling up" in worker.output)
    ids |= store()
    check_all(server, ids)
    assert worker.stop() == 0


@pytest.mark.parametrize(
    "option", [("--max-tasks-per-child", "1"), ("--max-memory-per-child", "1000")]
)
def test_processes_that_are_replaced_repeat_nothing(app, server, workers, option):
    worker = workers.start(app, *option, processes=3)
    ids = store(TOTAL // 4)  # each batch costs a process
    check_all(server, ids)
    assert worker.stop() == 0
