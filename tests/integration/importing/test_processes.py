"""Imports as processes: on a terminal, killed, resumed and delivered."""

from __future__ import annotations

import json
import os
import signal
import subprocess

from celery_segment import Analytics
from celery_segment.importing import reading
from celery_segment.testing import SegmentServer
from commands import Terminal, command, environ
from imports import Drainer, rejects_of, write
from support import buffer_of, wait_until


def test_a_terminal_shows_a_bar_and_what_is_waited_for(make_app, redis_server, tmp_path):
    app = make_app(segment_max_buffer_bytes=100_000)
    path = tmp_path / "events.ndjson"
    write(path, 100, padding=3_000)
    args = ["-A", "workerapp", "segment", "import", path.name]
    env = environ(broker_url=redis_server.url, segment_max_buffer_bytes=100_000)
    with Terminal(args, env, tmp_path) as terminal:
        terminal.read("waiting: the buffer of source")
        with Drainer(buffer_of(app)):
            shown = terminal.read()
            assert terminal.process.wait() == 1
    assert "100 records" in shown
    assert "events.ndjson: imported 88 messages, rejected 12" in shown


def test_ctrl_c_while_it_waits(make_app, redis_server, tmp_path):
    make_app()
    path = tmp_path / "events.ndjson"
    write(path, 400, padding=3_000)
    env = environ(broker_url=redis_server.url, segment_max_buffer_bytes=100_000)
    args = ["-A", "workerapp", "segment", "import", path.name]
    with Terminal(args, env, tmp_path) as terminal:
        terminal.read("waiting: ")
        terminal.process.send_signal(signal.SIGINT)
        shown = terminal.read()
        assert terminal.process.wait() == 130
    assert "Error: interrupted. events.ndjson is imported up to line 0: repeat the command" in shown
    assert "Traceback" not in shown


LINES = int(os.environ.get("SEGMENT_TEST_IMPORT_LINES", "100000"))


def test_killed_twice_resumed_and_delivered(make_app, redis_server, workers, tmp_path):
    """What SEGMENT_TEST_IMPORT_LINES=1000000 proves at length."""
    path = tmp_path / "events.ndjson"
    write(path, LINES, bad_each=100)
    bad = sum(n % 100 == 7 for n in range(LINES))
    with SegmentServer(record="ids") as server:
        app = make_app(segment_host=server.url, segment_flush_interval=0.5)
        workers.start(app)
        env = environ(broker_url=redis_server.url, segment_host=server.url)
        args = command("-A", "workerapp", "segment", "import", path.name, "--resume", "--json")
        checkpoint = path.with_name("events.ndjson.checkpoint")
        for share in (1, 2):
            with subprocess.Popen(args, env=env, cwd=tmp_path) as importing:
                wait_until(lambda: line_of(checkpoint) >= share * LINES // 4, timeout=60)  # noqa: B023
                importing.kill()
            assert importing.returncode == -signal.SIGKILL
        done = subprocess.run(args, env=env, cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == 1, done.stderr
        figures = json.loads(done.stdout)[path.name]
        assert (figures["taken"], figures["rejected"]) == (LINES - bad, bad)
        assert Analytics(app=app).flush(300) == 0
        assert len(server.received) == LINES - bad
        assert server.duplicates <= 2 * reading.CHUNK_RECORDS
        assert server.violations == []
    rejected = [each["line"] for each in rejects_of(path.with_name("events.ndjson.rejects"))]
    assert rejected == [n + 1 for n in range(LINES) if n % 100 == 7]


def line_of(checkpoint):
    return json.loads(checkpoint.read_bytes())["position"]["line"] if checkpoint.exists() else 0
