"""The stored format's version: who notes it, who reads it, and who refuses it."""

from __future__ import annotations

import pytest

from celery_segment import Analytics, ConfigurationError, track
from celery_segment.buffer import READS, STORES, check_format
from celery_segment.operations.metrics import Collector
from celery_segment.testing import EmbeddedRedis
from checks import findings, rendered
from commands import failed, ok
from moving import AFTER, BEFORE, fill
from support import Worker, buffer_of, wait_until

STATE = "{segment:default}:state"
NEWER = READS + 1
REFUSED = (
    f"source 'default' is stored in format {NEWER}, and this release of celery-segment reads up to"
    f" format {READS}: upgrade this process to the release of the workers that deliver the source"
)


def test_this_release_reads_what_it_stores():
    assert READS in (STORES, STORES + 1)
    check_format("default", READS)
    check_format("default", READS - 1)
    with pytest.raises(ConfigurationError) as caught:
        check_format("default", NEWER)
    assert str(caught.value) == REFUSED


def test_the_newest_format_is_kept(app, redis):
    admin = buffer_of(app).admin
    assert admin.snapshot().format == 1
    assert redis.keys() == []
    assert [admin.note_format(number) for number in (2, 1, 3, 3)] == [2, 2, 3, 3]
    assert admin.snapshot().format == 3


def test_a_worker_notes_it_and_calls_do_not(app, redis, workers):
    track.delay("u", "Stored")
    assert redis.hget(STATE, "format") is None
    workers.start(app, processes=1)
    assert int(redis.hget(STATE, "format")) == STORES


def test_a_worker_does_not_start_on_a_newer_format(app, redis, redis_server, tmp_path):
    track.delay("u", "Stored")
    redis.hset(STATE, "format", NEWER)
    worker = Worker(tmp_path, {"broker_url": redis_server.url}, "w", ("--pool", "solo"))
    assert worker.process.wait(30) != 0
    assert f"ConfigurationError: {REFUSED}" in worker.output
    track.delay("u", "Stored")  # calls neither fail nor look
    assert Analytics(app=app).stats().waiting == 2


def test_a_worker_of_which_a_newer_one_takes_over_goes_on(app, redis, workers, server):
    """It reads what the next release stores; only its next start is refused."""
    workers.start(app, processes=1)
    redis.hset(STATE, "format", NEWER)
    track.delay("u", "Delivered")
    wait_until(lambda: len(server.received) == 1)


@pytest.mark.parametrize("number", [STORES, NEWER])
def test_a_worker_that_started_while_redis_was_away_looks_later(make_app, workers, server, number):
    with EmbeddedRedis(appendonly=False) as own:
        app = make_app(segment_redis_url=own.url, segment_redis_timeout=0.3)
        track.delay("u", "Stored")
        with own.client() as client:
            client.hset(STATE, "format", number)
        own.pause()
        worker = workers.start(app, processes=1)
        own.resume()
        if number == STORES:
            wait_until(lambda: len(server.received) == 1)
            assert "this release of celery-segment reads" not in worker.output
        else:
            wait_until(lambda: f"{REFUSED}; this worker leaves it to others" in worker.output)
            assert Analytics().stats().buffered.messages == 1
            assert worker.process.poll() is None


@pytest.mark.parametrize(
    "command", [("status",), ("dead", "list"), ("dead", "show", "1"), ("dead", "export", "-")]
)
def test_a_command_that_reads_refuses_a_newer_format(app, redis, command):
    track.delay("u", "Stored")
    redis.hset(STATE, "format", NEWER)
    assert failed(app, *command) == f"Error: {REFUSED}\n"


def test_the_metrics_have_no_figures_of_a_newer_format(app, redis, caplog):
    track.delay("u", "Stored")
    redis.hset(STATE, "format", NEWER)
    collector = Collector(app)
    for _ in range(2):
        up, *families = collector.collect()
        assert [sample.value for sample in up.samples] == [0]
        assert not any(family.samples for family in families)
    assert [record.getMessage() for record in caplog.records] == [f"default: no figures: {REFUSED}"]
    redis.hset(STATE, "format", STORES)
    up, *_ = collector.collect()
    assert [sample.value for sample in up.samples] == [1]


def test_deliver_refuses_a_newer_format(app, redis):
    track.delay("u", "Stored")
    redis.hset(STATE, "format", NEWER)
    assert failed(app, "deliver") == f"Error: {REFUSED}\n"
    with pytest.raises(ConfigurationError):
        Analytics(app=app).deliver(5)
    assert Analytics(app=app).stats().buffered.messages == 1


def test_the_check_tells_it(app, redis):
    found = findings(app, "--no-endpoint")["default", "format"]
    assert rendered(found) == "ok format 1, which this release reads"
    redis.hset(STATE, "format", NEWER)
    found = findings(app, "--no-endpoint", status=1)["default", "format"]
    assert rendered(found) == f"fail {REFUSED}"


@pytest.mark.parametrize("source", ["old", "new"])
def test_a_move_refuses_a_newer_format(make_app, redis, source):
    before, app = make_app(**BEFORE), make_app(**AFTER)
    fill(before, 0, 3)
    redis.hset(f"{{segment:{source}}}:state", "format", NEWER)
    said = failed(app, "rename", "old", "new")
    assert said == f"Error: {REFUSED.replace('default', source)}\n"
    assert buffer_of(before, "old").admin.snapshot().buffered.messages == 3


def test_a_move_takes_the_format_along(make_app, redis):
    before, app = make_app(**BEFORE), make_app(**AFTER)
    fill(before, 0, 3)
    buffer_of(before, "old").admin.note_format(READS)
    ok(app, "rename", "old", "new")
    assert int(redis.hget("{segment:new}:state", "format")) == READS
