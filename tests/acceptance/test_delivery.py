"""The whole product at work: real workers, a real endpoint, real failures."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
from celery.bin.base import CLIContext
from click.testing import CliRunner

from celery_segment import Analytics, track
from celery_segment.testing import Reply, SegmentServer
from celery_segment_cli import segment
from support import DEFAULTS, TESTS, buffer_of, wait_until


def test_a_hundred_thousand_events_through_a_failing_endpoint(make_app, workers):
    # A worker may have begun a request before it can know of another's 429.
    with SegmentServer(record="ids", in_flight_grace=0.25) as server:
        app = make_app(
            segment_host=server.url,
            segment_flush_interval=1.0,
            segment_timeout=5,
            segment_lease=10,
        )
        chance = random.Random(20261123)
        lock = threading.Lock()

        def sometimes_fail(_request):
            with lock:
                if chance.random() >= 0.2:
                    return None
                return chance.choice(
                    [Reply.status(500), Reply.status(429, retry_after=1), Reply.close()]
                )

        server.rule(sometimes_fail)
        for _ in range(2):
            workers.start(app, processes=2)
        accepted = _produce(app, processes=4, events=25_000)
        assert len(accepted) == 100_000
        assert Analytics(app=app).flush(timeout=180) == 0
        assert set(server.received) == accepted
        assert server.violations == []
        assert max(r.bytes for r in server.requests) <= 500_000
        assert max(len(r.message_ids) for r in server.requests) <= 2_500
        statuses = [r.status for r in server.requests]
        assert {200, 429, 500, None} == set(statuses)
        stats = Analytics(app=app).stats()
        assert stats.accepted == stats.delivered.messages == 100_000
        assert stats.dead.messages == 0
        assert server.duplicates == 0, "a failed attempt was not accepted by the endpoint"


def _produce(app, processes, events):
    conf = {**DEFAULTS, "broker_url": app.conf.broker_url, **_segment(app)}
    environ = {**os.environ, "TESTS_CONF": json.dumps(conf), "PYTHONPATH": str(TESTS)}
    running = [
        subprocess.Popen(
            [sys.executable, str(TESTS / "producer.py"), str(n), str(events)],
            env=environ,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(processes)
    ]
    accepted = set()
    for process in running:
        accepted.update(process.communicate()[0].split())
        assert process.returncode == 0
    return accepted


def _segment(app):
    return {k: v for k, v in app.conf.changes.items() if k.startswith("segment_")}


def test_a_killed_worker_is_taken_over(make_app, server, workers):
    lease, interval = 3.0, 0.5
    app = make_app(
        segment_lease=lease,
        segment_timeout=2.5,
        segment_flush_interval=interval,
        segment_max_batch_messages=50,
    )
    other = workers.start(app)
    other.signal(signal.SIGSTOP)
    first = workers.start(app)
    server.always(Reply.hang(60))
    with Analytics().batch():
        ids = {track.delay("u", f"E{n}").id for n in range(1000)}
    # One of its two processes holds a batch, and waits for an answer.
    assert server.wait_for(lambda: len(server.requests) >= 1, timeout=10)
    assert Analytics().stats().inflight.messages >= 50
    first.kill()
    killed = time.monotonic()
    server.always(None)
    other.signal(signal.SIGCONT)
    assert server.wait_for_messages(1000, timeout=lease + interval + 5)
    assert time.monotonic() - killed < lease + interval + 2
    assert set(server.received) == ids
    assert Analytics().flush(10) == 0
    stats = Analytics().stats()
    assert stats.dead.messages == 0
    assert stats.takeovers > 0


def test_three_bad_messages_of_a_thousand(make_app, server, workers):
    app = make_app(segment_flush_interval=0.5)
    bad_at = dict(zip(random.Random(3).sample(range(1000), 3), ("b1", "b2", "b3"), strict=True))
    bad = set(bad_at.values())
    server.fail_messages(lambda message: message["messageId"] in bad)
    with Analytics().batch():
        for n in range(1000):
            track.delay("u", f"E{n}", message_id=bad_at.get(n))
    workers.start(app)
    analytics = Analytics()
    assert analytics.flush(30) == 0
    assert len(server.received) == 997
    assert len(server.requests) <= 1 + 2 * 3 * 10
    letters = list(analytics.dead_letters)
    assert [letter.messages for letter in letters] == [1, 1, 1]
    assert all(letter.reason.startswith("400 Bad Request") for letter in letters)
    dead = {
        m["messageId"] for letter in letters for m in analytics.dead_letters.messages(letter.id)
    }
    assert dead == bad
    server.fail_messages(None)
    assert analytics.dead_letters.replay() == 3
    assert analytics.flush(30) == 0
    assert len(server.received) == 1000
    assert analytics.stats().dead.messages == 0


def test_dead_letters_of_one_kind_are_one_error_and_a_summary(make_app, server, workers):
    app = make_app()
    server.fail_messages(lambda _: True)
    with Analytics().batch():
        for _ in range(5):
            track.delay("u", "bad")
    worker = workers.start(app, processes=1)
    assert Analytics().flush(30) == 0
    error = r"ERROR/.*default: track 'bad': (.*) given up"
    assert re.findall(error, worker.output) == ["1 message"]
    worker.stop()
    assert re.findall(error, worker.output) == ["1 message", "4 more messages"]


def test_dead_letters_that_are_full_stop_the_source_until_there_is_room(
    make_app, server, workers, tmp_path
):
    bound = 1_000_000
    app = make_app(
        segment_flush_interval=0.3, segment_max_dead_bytes=bound, segment_max_batch_messages=25
    )
    analytics = Analytics()
    server.always(Reply.status(400))
    text = "x" * 20_000
    with analytics.batch():
        ids = {track.delay("u", f"E{n}", {"text": text}).id for n in range(120)}
    worker = workers.start(app)

    def figures():
        stats = analytics.stats()
        settled = stats.delivered.messages + stats.dead.messages + stats.purged
        assert stats.accepted == stats.waiting + settled == 120
        assert stats.dead.bytes <= bound
        return stats

    full = "dead letters are full (1.0 MB): replay, purge or export them"
    wait_until(lambda: figures().gate.reason.startswith(full))
    stats = figures()
    assert bound - stats.dead.bytes < 25_000
    assert 40 <= stats.dead.messages < 120
    assert stats.delivered.messages == 0
    assert flush_reason(app).startswith(
        f"{120 - stats.dead.messages} messages remain: the source is closed"
    )
    closed = [line for line in worker.output.splitlines() if "its messages are kept" in line]
    assert len(closed) == 1
    assert (
        f"closed for 5 s, its messages are kept: {full}; this batch: 400 Bad Request" in closed[0]
    )
    requests = len(server.requests)
    # Room is made, and what was dead is kept.
    exported = analytics.dead_letters.export(tmp_path / "dead.ndjson", purge=True)
    assert exported == (stats.dead.messages, stats.dead.messages)
    analytics.resume()
    wait_until(lambda: figures().gate.reason.startswith(full))
    assert figures().dead.messages >= 40
    # The endpoint is mended: all that was kept is delivered, and replayed what died.
    server.restore()
    analytics.resume()

    def delivered():
        # One that was refused just before the mend may die after a first replay.
        analytics.dead_letters.replay()
        return figures().delivered.messages + figures().purged == 120

    wait_until(delivered)
    lines = (tmp_path / "dead.ndjson").read_bytes().splitlines()
    away = {json.loads(line)["message"]["messageId"] for line in lines}
    assert len(away) == stats.dead.messages
    assert set(server.received) == ids - away
    assert len(server.requests) > requests


def flush_reason(app):
    """What `celery segment flush` says of what remains."""
    context = CLIContext(app=app, no_color=True, workdir=None)
    result = CliRunner().invoke(segment, ["flush", "--timeout", "0"], obj=context)
    return result.stdout.removeprefix("default: ")


def test_a_stopped_holder_cannot_settle_what_another_took_over(make_app, server, workers):
    app = make_app(segment_lease=1.0, segment_timeout=0.9, segment_flush_interval=0.3)
    first = workers.start(app, pool="solo")
    server.reply(Reply.slow(0.5))
    result = track.delay("u", "E")
    assert server.wait_for_messages(1, timeout=10)
    first.signal(signal.SIGSTOP)
    workers.start(app)
    assert server.wait_for(lambda: server.received[result.id] == 2, timeout=15)
    assert Analytics().flush(10) == 0
    first.signal(signal.SIGCONT)
    wait_until(lambda: "taken over by another worker" in first.output)
    stats = Analytics().stats()
    assert (stats.accepted, stats.delivered.messages, stats.takeovers) == (1, 1, 1)


# Their ends, under load: tests/topologies/test_pools.py.
@pytest.mark.parametrize("pool", ["threads", "solo", "prefork", "gevent", "eventlet"])
def test_every_pool_delivers(make_app, server, workers, pool):
    app = make_app(segment_flush_interval=0.5)
    workers.start(app, pool=pool)
    ids = {track.delay("u", f"E{n}").id for n in range(300)}
    assert Analytics().flush(20) == 0
    assert set(server.received) == ids


def test_a_wrong_key_buries_nothing_and_mending_it_delivers(make_app, workers):
    with SegmentServer(write_keys=["right"]) as server:
        app = make_app(segment_host=server.url, segment_flush_interval=0.3)
        wrong = workers.start(app, segment_write_key="wrong")
        ids = {track.delay("u", f"E{n}").id for n in range(50)}
        wait_until(lambda: Analytics().stats().gate.reason.startswith("401"))
        track.delay("u", "later")
        wait_until(lambda: "closed for" in wrong.output)  # told after Redis knows it
        closed = [line for line in wrong.output.splitlines() if "closed for" in line]
        assert len(closed) == 1
        wrong.stop()
        workers.start(app, segment_write_key="right")
        Analytics().resume()
        assert Analytics().flush(20) == 0
        assert ids <= set(server.received)
        assert Analytics().stats().dead.messages == 0


def test_a_worker_without_a_key_keeps_the_messages(make_app, server, workers):
    app = make_app(segment_flush_interval=0.3)
    worker = workers.start(app, segment_write_key=None)
    track.delay("u", "E")
    wait_until(lambda: "no write key" in worker.output)
    assert Analytics().flush(1) == 1
    assert server.requests == []
    workers.start(app)
    wait_until(lambda: Analytics().stats().delivered.messages == 1)


def test_a_source_is_closed_by_failures_and_opened_by_a_probe(make_app, server, workers):
    app = make_app(segment_flush_interval=0.3, segment_max_batch_messages=10)
    server.always(Reply.status(503))
    with Analytics().batch():
        ids = {track.delay("u", f"E{n}").id for n in range(300)}
    workers.start(app)
    wait_until(lambda: Analytics().stats().gate.reason.startswith("503"))
    wait_until(lambda: Analytics().stats().inflight.batches < 30)
    before = len(server.requests)
    server.restore()
    assert Analytics().flush(30) == 0
    assert set(server.received) == ids
    assert before < 40, "a failing endpoint was flooded"


def test_workers_make_as_many_requests_as_the_rate_allows(make_app, server, workers):
    rate, batches = 20, 110  # a rate that a busy machine can make
    app = make_app(
        segment_max_requests_per_second=rate,
        segment_max_batch_messages=10,
        segment_worker_share=1.0,
    )
    server.rule(lambda _: Reply.slow(0.02))
    with Analytics().batch():
        for number in range(10 * batches):
            track.delay("u", "E", {"number": number})
    for _ in range(2):
        workers.start(app, processes=3)
    assert server.wait_for(lambda: len(server.requests) >= batches, timeout=30)
    times = [request.at for request in server.requests][:batches]
    # The first find out how many may be under way at the same time; and a machine may stand still.
    spans = [times[n + 30] - times[n] for n in range(30, batches - 30)]
    assert 30 / min(spans) >= 0.9 * rate
    assert (batches - 31) / (times[-1] - times[30]) <= 1.02 * rate
    assert server.duplicates == 0


def test_a_paused_source_delivers_nothing_until_resumed(make_app, server, workers):
    app = make_app(segment_flush_interval=0.3)
    analytics = Analytics()
    analytics.pause()
    workers.start(app)
    ids = {track.delay("u", f"E{n}").id for n in range(50)}
    assert analytics.flush(1.5) == 50
    assert server.requests == []
    analytics.resume()
    assert analytics.flush(20) == 0
    assert set(server.received) == ids


def test_a_warm_shutdown_under_load_loses_and_repeats_nothing(make_app, server, workers):
    app = make_app(segment_flush_interval=0.3, segment_max_batch_messages=20, segment_lease=20)
    server.rule(lambda _: Reply.slow(0.05))
    first = workers.start(app)
    with Analytics().batch():
        ids = {track.delay("u", f"E{n}").id for n in range(1000)}
    assert server.wait_for_messages(100, timeout=10)
    assert first.stop() == 0
    workers.start(app)
    # Finished, or given back at once: nothing waits for the lease of the one that stopped.
    assert Analytics().flush(15) == 0
    assert set(server.received) == ids
    assert server.duplicates == 0


def test_a_warm_shutdown_gives_a_waiting_retry_back(make_app, server, workers):
    make_app(segment_flush_interval=0.3, segment_lease=60)
    server.reply(Reply.status(429, retry_after=3))
    track.delay("u", "E")
    first = workers.start(Analytics().app)
    wait_until(lambda: Analytics().stats().retries == 1)
    assert first.stop() == 0
    workers.start(Analytics().app)
    assert Analytics().flush(20) == 0
    assert server.duplicates == 0
    assert server.violations == []


def test_the_tick_alone_delivers_when_every_wake_is_lost(make_app, redis, server, workers):
    app = make_app(segment_flush_interval=0.4)
    track.delay("u", "E0")
    redis.delete("celery")
    workers.start(app)
    assert server.wait_for_messages(1, timeout=5)
    wait_until(lambda: buffer_of(app).admin.snapshot().delivered.messages == 1)


def test_an_unknown_setting_stops_a_worker_at_its_start(make_app, workers):
    with pytest.raises(AssertionError, match="did you mean segment_flush_at"):
        workers.start(make_app(), segment_flush_att=3)
