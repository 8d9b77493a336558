"""What a source did of late, as `status --watch` shows it; and which workers are there."""

from __future__ import annotations

import time

from celery_segment import Analytics, track
from celery_segment.buffer import BUCKETS
from celery_segment.operations.watching import LATENCIES, RATES, Present, Rates, Window, Workers
from support import buffer_of, free_port, let_pass, wait_until


def deliver(app, redis, count, age):
    """Deliver so many messages, each so many seconds after its call."""
    with Analytics(app=app).batch():
        for n in range(count):
            track.delay("u", f"E{n}")
    buffer = buffer_of(app)
    (batch,) = buffer.claim(1)
    let_pass(redis, age)
    buffer.ack(buffer.begin(batch.id, "t"), "200")
    return Analytics(app=app).stats()


def test_rates_are_those_of_the_last_seconds(app, redis):
    window, stats = Window(), Analytics(app=app).stats
    assert window.add(stats(), 100.0).rates == Rates(None, None)
    assert window.add(stats(), 100.4).rates == Rates(None, None), "too soon"
    assert window.add(deliver(app, redis, 30, 1), 102.0).rates == (15.0, 15.0)
    track.delay("u", "stored")
    assert window.add(stats(), 110.0).rates == (3.1, 3.0)
    assert window.add(stats(), 110.0 + RATES).rates == (0.0, 0.0)


def test_percentiles_are_those_of_the_last_minute(app, redis):
    deliver(app, redis, 50, 1_000)  # before the watch
    window = Window()
    assert window.add(Analytics(app=app).stats(), 100.0).latency.quantile(0.5) is None
    found = window.add(deliver(app, redis, 20, 40), 101.0).latency
    assert found.counts[BUCKETS.index(60.0)] == found.count == 20
    found = window.add(deliver(app, redis, 10, 100), 102.0).latency
    assert found.count == 30
    assert 60 < found.quantile(0.99) <= 120
    assert window.add(Analytics(app=app).stats(), 101.5 + LATENCIES).latency.count == 10
    assert window.add(Analytics(app=app).stats(), 102.5 + LATENCIES).latency.count == 0


def test_a_source_that_was_moved_away_meanwhile_has_no_rate_below_zero(app, redis):
    window = Window()
    window.add(deliver(app, redis, 20, 5), 100.0)
    redis.flushall()
    found = window.add(Analytics(app=app).stats(), 105.0)
    assert (found.rates, found.latency.count) == (Rates(0.0, 0.0), 0)


def found_by(app):
    with Workers(app) as workers:
        return wait_until(lambda: workers.found)


def test_no_worker_answers(app):
    assert found_by(app) == Present()


def test_workers_that_cannot_be_asked_are_no_wait(make_app, redis_server):
    app = make_app(worker_enable_remote_control=False)
    assert found_by(app) == Present(problem="worker_enable_remote_control is off")
    away = f"redis://127.0.0.1:{free_port()}/0"
    app = make_app(broker_url=away, segment_redis_url=redis_server.url)
    began = time.monotonic()
    with Workers(app) as workers:
        seen = workers.found  # the thread may have been as quick
        assert time.monotonic() - began < 0.2
        assert seen is None or seen.problem
        found = wait_until(lambda: workers.found)
    assert found.problem.startswith("the broker is unreachable (")
    assert found.names == ()
