"""An import waits for a full buffer and for Redis."""

from __future__ import annotations

import errno
import os

from celery_segment import Analytics
from celery_segment.importing import Import, Watch, reading
from celery_segment.importing.rejects import Rejects
from celery_segment.testing import EmbeddedRedis
from commands import run
from imports import GOOD, Drainer, numbers, stored, write
from support import buffer_of, wait_until


def test_a_full_buffer_is_waited_for(make_app, tmp_path):
    app = make_app(segment_max_buffer_bytes=200_000, segment_on_full="drop")
    path = tmp_path / "events.ndjson"
    write(path, 400, padding=3_000)
    with Drainer(buffer_of(app)) as drainer:
        said = run(app, "import", str(path))
        assert said.stdout.startswith(f"{path}: imported 350 messages, rejected 50")
        assert said.stderr == (
            "waiting: the buffer of source 'default' has reached segment_max_buffer_bytes"
            " (200,000): let the workers drain it, or raise it\n"
        )
        wait_until(lambda: len(drainer.delivered) >= 350)
    assert len({m["messageId"] for m in drainer.delivered}) == len(drainer.delivered) == 350
    assert 100_000 < drainer.most_bytes <= 200_000
    assert Analytics(app=app).stats().dropped["full"] == 0


def test_a_buffer_that_stays_full_ends_it_and_it_goes_on(make_app, tmp_path):
    app = make_app(segment_max_buffer_bytes=100_000)
    path = tmp_path / "events.ndjson"
    write(path, 400, padding=3_000)
    said = run(app, "import", str(path), "--timeout", "0.2")
    assert said.exit_code == 3
    last = said.stderr.splitlines()[-1]
    assert last.startswith("Error: the buffer of source 'default' has reached segment_max_buffer_")
    assert last.endswith("imported up to line 0: repeat the command with --resume to continue")
    with Drainer(buffer_of(app)) as drainer:
        assert run(app, "import", str(path), "--resume").exit_code == 1
        wait_until(lambda: len({m["messageId"] for m in drainer.delivered}) == 350)


class Outage(Watch):
    """Kills Redis after the first chunk, and starts it again once that is waited for."""

    def __init__(self, server):
        self._server = server
        self.waited = []

    def settled(self, file):
        if file.state.position.line == 1_000:
            self._server.kill()

    def waits(self, why):
        self.waited.append(why)
        if len(self.waited) == 2:
            self._server.restart()


def test_redis_killed_in_the_middle(make_app, redis_server, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "CHUNK_RECORDS", 1_000)
    path = tmp_path / "events.ndjson"
    write(path, 3_000)
    with EmbeddedRedis(config={"appendonly": True, "appendfsync": "always"}) as own:
        app = make_app(
            segment_redis_url=own.url,
            broker_url=redis_server.url,
            segment_on_unavailable="drop",
        )
        work, outage = Import(app, [str(path)]), Outage(own)
        work.run(outage)
        assert work.files[0].state.figures.taken == 2_625
        assert len(outage.waited) >= 2
        assert numbers(app) == [n for n in range(3_000) if n % 8 != 7]


def test_a_full_disk_ends_it_and_it_goes_on(app, file, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "events.ndjson.rejects")

    with monkeypatch.context() as patch:
        patch.setattr(Rejects, "write", full)
        said = run(app, "import", str(file))
    assert said.exit_code == 3
    assert said.stderr.startswith("Error: events.ndjson.rejects: No space left on device. ")
    assert stored(app) == []
    assert run(app, "import", str(file), "--resume").exit_code == 1
    assert numbers(app) == GOOD


def test_redis_away_is_waited_for_no_longer_than_asked(make_app, file):
    away = make_app(segment_redis_url="redis://user:passw0rd@127.0.0.1:1/0")
    said = run(away, "import", str(file), "--timeout", "0.2")
    assert said.exit_code == 3
    first, last = said.stderr.splitlines()
    assert first.startswith("waiting: Redis at 127.0.0.1:1 is unreachable (")
    assert last.startswith("Error: Redis at 127.0.0.1:1 is unreachable (")
    assert "passw0rd" not in said.stderr
