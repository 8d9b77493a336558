"""Redis away, full or bounded: what a call does, as configured."""

from __future__ import annotations

import gc
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from celery_segment import Analytics, BufferFull, BufferUnavailable, ValidationError, track
from celery_segment.buffer import Attachments, messages_of
from celery_segment.producer.spill import Spill
from celery_segment.runtime import runtime_of
from celery_segment.testing import EmbeddedRedis
from support import DEFAULTS, TESTS, buffer_of, drops, wait_until


@pytest.fixture
def own():
    """A Redis that the test may kill."""
    with EmbeddedRedis(config={"appendfsync": "always"}) as redis:
        yield redis


def settle(analytics):
    """Make a call once Redis is asked again, and return the figures."""
    wait_until(
        lambda: runtime_of(analytics.app).producer("default")._store._rests_until < time.monotonic()
    )
    track.delay("u", "after")
    return analytics.stats()


class TestDrop:
    def test_unavailable_drops_are_counted(self, make_app, own, caplog):
        app = make_app(segment_redis_url=own.url, segment_on_unavailable="drop")
        track.delay("u", "before")
        own.kill()
        for number in range(5):
            assert track.delay("u", f"E{number}").id
        with pytest.raises(ValidationError):
            track.delay("u")
        own.restart()
        stats = settle(Analytics(app=app))
        # Redis went away while a connection was open: the first call cannot know.
        assert stats.accepted == 2
        assert stats.dropped == drops(unavailable=4, unknown=1)
        assert caplog.text.count("messages are dropped: unavailable") == 1

    def test_full_drops_are_counted(self, make_app, redis):
        app = make_app(segment_on_full="drop")
        track.delay("u", "before")
        redis.config_set("maxmemory", 1)
        for number in range(5):
            track.delay("u", f"E{number}")
        redis.config_set("maxmemory", 0)
        stats = settle(Analytics(app=app))
        assert (stats.accepted, stats.dropped["full"]) == (2, 5)


class TestBound:
    def test_the_buffer_holds_no_more_than_its_bound(self, make_app):
        app = make_app(segment_max_buffer_bytes=100_000)
        with pytest.raises(BufferFull, match="segment_max_buffer_bytes"):
            for _ in range(1000):
                track.delay("u", "E", {"x": "y" * 1000})
        buffer = buffer_of(app)
        stats = buffer.admin.snapshot()
        assert 98_000 < stats.buffered.bytes + stats.ready.bytes + stats.inflight.bytes <= 100_000
        with pytest.raises(BufferFull), Analytics().batch():
            for _ in range(3):
                track.delay("u", "E", {"x": "y" * 1000})
        assert replace(buffer.admin.snapshot(), oldest=stats.oldest) == stats
        (batch,) = buffer.claim(1)
        with pytest.raises(BufferFull):
            track.delay("u", "E", {"x": "y" * 1000})
        buffer.ack(buffer.begin(batch.id, "t"))
        track.delay("u", "E", {"x": "y" * 1000})

    def test_a_bound_may_drop_instead(self, make_app):
        app = make_app(segment_max_buffer_bytes=100_000, segment_on_full="drop")
        for _ in range(200):
            track.delay("u", "E", {"x": "y" * 1000})
        buffer = buffer_of(app)
        (batch,) = buffer.claim(1)
        buffer.ack(buffer.begin(batch.id, "t"))
        stats = settle(Analytics())
        assert stats.accepted + stats.dropped["full"] == 201
        assert stats.dropped["full"] > 100


SPILLER = """
import json, os, sys
from support import new_app
from celery_segment import track
app = new_app(json.loads(os.environ["TESTS_CONF"]))
app.set_current()
for number in range(int(sys.argv[1])):
    print(track.delay("u", f"E{number}").id, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def spiller():
    """Start client processes that call while Redis is away, and then wait."""
    started = []

    def start(conf, calls):
        environ = {**os.environ, "TESTS_CONF": json.dumps({**DEFAULTS, **conf})}
        environ["PYTHONPATH"] = str(TESTS)
        process = subprocess.Popen(
            [sys.executable, "-c", SPILLER, str(calls)],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


class TestSpill:
    def test_messages_come_back_in_order(self, make_app, own, tmp_path):
        app = make_app(
            segment_redis_url=own.url,
            segment_on_unavailable="spill",
            segment_spill_path=str(tmp_path / "spill"),
        )
        track.delay("u", "before")
        own.kill()
        spilled = [track.delay("u", f"E{number}").id for number in range(1200)]
        own.restart()
        settle(Analytics(app=app))
        while runtime_of(app).producer("default")._store.give_back():
            pass
        content = own.client().get("{segment:default}:open")
        ids = [json.loads(bytes(m))["messageId"] for m in messages_of(content)]
        assert ids[2:] == spilled
        assert Analytics(app=app).stats().accepted == 1202
        assert oct((tmp_path / "spill").stat().st_mode)[-3:] == "600"

    def test_a_redis_that_hangs_costs_one_wait_a_second(self, make_app, own, tmp_path):
        make_app(
            segment_redis_url=own.url,
            segment_on_unavailable="spill",
            segment_spill_path=str(tmp_path / "spill"),
        )
        own.pause()
        try:
            started = time.monotonic()
            for number in range(100):
                track.delay("u", f"E{number}")
            assert time.monotonic() - started < 3
        finally:
            own.resume()

    def test_what_killed_processes_spilled_a_worker_gives_back(
        self, make_app, own, redis_server, server, workers, spiller, tmp_path
    ):
        conf = {
            "broker_url": redis_server.url,
            "segment_redis_url": own.url,
            "segment_on_unavailable": "spill",
            "segment_spill_path": str(tmp_path / "spill"),
            "segment_flush_interval": 0.5,
        }
        own.kill()
        clients = [spiller(conf, 200) for _ in range(3)]
        ids = {client.stdout.readline().strip() for client in clients for _ in range(200)}
        for client in clients:
            client.send_signal(signal.SIGKILL)
        assert len(ids) == 600
        own.restart()
        app = make_app(**conf)
        workers.start(app)
        assert server.wait_for_messages(600, timeout=20)
        assert set(server.received) == ids
        assert server.duplicates == 0

    def test_the_file_keeps_its_bound(self, make_app, own, tmp_path):
        make_app(
            segment_redis_url=own.url,
            segment_on_unavailable="spill",
            segment_spill_path=str(tmp_path / "spill"),
            segment_max_spill_bytes=200_000,
        )
        own.kill()
        taken = 0
        with pytest.raises(BufferFull, match="segment_max_spill_bytes"):
            for _ in range(1000):
                track.delay("u", "E", {"x": "y" * 1000})
                taken += 1
        assert 100 < taken < 200
        own.restart()
        assert settle(Analytics()).accepted == 1 + taken
        own.kill()
        wait_until(lambda: track.delay("u", "E").id)

    def test_a_file_that_cannot_be_written_is_named(self, make_app, own, tmp_path):
        folder = tmp_path / "spill"
        make_app(
            segment_redis_url=own.url,
            segment_on_unavailable="spill",
            segment_spill_path=str(folder),
        )
        folder.mkdir()
        own.kill()
        with pytest.raises(BufferUnavailable, match="segment_spill_path"):
            track.delay("u", "E")

    def test_a_refusal_while_giving_back_loses_nothing(self, tmp_path):
        spill = Spill(str(tmp_path / "spill"), 10**7)
        attachments = {
            7: Attachments(b"callbacks"),
            700: Attachments(b"more", b"trace"),
            701: Attachments(b"", b"one"),
        }
        spill.put("s", [b"%d" % n for n in range(1200)], attachments)
        spill.put("other", [b"x"], {})
        taken, theirs = [], {}

        def take(messages, given):
            theirs.update({len(taken) + place: each for place, each in given.items()})
            taken.extend(messages)

        def append(messages, given):
            if len(taken) == 500:
                raise BufferUnavailable("away")
            take(messages, given)

        assert spill.give_back("s", append) == 500
        with pytest.raises(BufferUnavailable):
            spill.give_back("s", append)
        assert spill.waiting("s") == 700
        while spill.give_back("s", take):
            pass
        assert taken == [b"%d" % n for n in range(1200)]
        assert theirs == attachments
        assert (spill.waiting("s"), spill.waiting("other")) == (0, 1)

    def test_a_forked_child_writes_as_well(self, tmp_path):
        spill = Spill(str(tmp_path / "spill"), 10**7)
        spill.put("s", [b"parent"], {})
        child = os.fork()
        if child == 0:
            spill.put("s", [b"child"], {})
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        spill.put("s", [b"parent again"], {})
        assert spill.waiting("s") == 3

    def test_its_file_is_closed_with_it_and_by_no_child(self, tmp_path):
        spill = Spill(str(tmp_path / "spill"), 10**7)
        spill.put("s", [b"m"], {})
        connection = spill._file._connection
        child = os.fork()
        if child == 0:
            status = 1
            try:
                del spill
                gc.collect()
                connection.execute("SELECT 1")
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        del spill
        gc.collect()
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")
