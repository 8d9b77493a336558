"""`celery segment status`: a table, JSON, and watched."""

from __future__ import annotations

import json
import re
import signal
import time
from types import SimpleNamespace

import pytest

from celery_segment import Analytics
from celery_segment.buffer import Snapshot, Violations
from celery_segment.cli.status import _workers
from celery_segment.operations.watching import Present
from celery_segment.testing import EmbeddedRedis
from commands import Terminal, environ, ok
from operating import SOURCES, bury, cells, store
from support import buffer_of, let_pass


def test_status_shows_a_row_for_each_source(app):
    bury(app, *["bad"] * 1_000)
    store(app, "a", "b")
    buffer_of(app).admin.mark()
    store(app, "c")
    Analytics("marketing", app=app).pause()
    default, marketing = cells(ok(app, "status"))
    assert default.pop("oldest") in {"0 s", "1 s"}
    assert default == {
        "source": "default",
        "accepted": "1,003",
        "buffered": "1",
        "ready": "2",
        "batches": "1",
        "in flight": "0",
        "delivered": "0",
        "dead": "1,000",
        "purged": "0",
        "dropped": "0",
        "retries": "0",
        "p50": "-",
        "p95": "-",
        "p99": "-",
        "gate": "open",
    }
    assert marketing["source"] == "marketing"
    assert marketing["accepted"] == "0"
    assert marketing["oldest"] == "-"
    assert marketing["gate"] == "paused"


def test_status_shows_violations_of_a_plan_once_there_are_any(app):
    found = Violations.of("track", "E", "properties.a", "type")
    buffer_of(app).count_violations([found, found, found._replace(rule="required")])
    rows = cells(ok(app, "status"))
    assert [row["violations"] for row in rows] == ["3", "0"]
    figures = json.loads(ok(app, "status", "--json"))
    assert figures["default"]["violations"] == {"required": 1, "type": 2}


def test_status_of_named_sources_alone(app):
    rows = cells(ok(app, "status", "--source", "marketing", "--source", "marketing"))
    assert [row["source"] for row in rows] == ["marketing"]


def test_status_shows_why_and_for_how_long_a_source_is_closed(app):
    buffer = buffer_of(app)
    store(app, "a")
    (batch,) = buffer.claim(1)
    held = buffer.begin(batch.id, "token")
    cause = "401 Unauthorized: [bold]\x1b[31m\nwho are you" + " and what" * 20
    buffer.retry(held, "refused", 0.0, cause, breaker=(1, 90.0, 90.0))
    default, _ = cells(ok(app, "status"))
    expected = (
        "401 Unauthorized: [bold]\N{REPLACEMENT CHARACTER}[31m who are you" + " and what" * 20
    )
    assert default["gate"] == f"closed for 1 min 30 s: {expected}"
    assert default["in flight"] == default["retries"] == "1"


def test_status_shows_why_a_source_is_tested(app, redis):
    store(app, "a")
    buffer = buffer_of(app)
    (batch,) = buffer.claim(1)
    held = buffer.begin(batch.id, "token")
    buffer.retry(held, "refused", 0.0, "401 Unauthorized", breaker=(1, 90.0, 90.0))
    let_pass(redis, 91)
    assert cells(ok(app, "status"))[0]["gate"] == "probing after: 401 Unauthorized"
    buffer.admin.resume()
    assert cells(ok(app, "status"))[0]["gate"] == "open"


def test_status_shows_that_a_source_is_off(make_app):
    app = make_app(segment_enabled=False)
    assert cells(ok(app, "status"))[0]["gate"] == "off"
    assert json.loads(ok(app, "status", "--json"))["default"]["gate"]["state"] == "off"
    Analytics(app=app).pause()
    assert Analytics(app=app).stats().gate.state == "off"


def test_status_shows_that_calls_are_refused_and_how_full_redis_is(make_app):
    with EmbeddedRedis() as own, own.client() as client:
        app = make_app(broker_url=own.url)
        buffer = buffer_of(app)
        store(app, "a")
        client.setrange("much", 20_000_000, b"x")
        client.config_set("maxmemory", client.info("memory")["used_memory"] * 100 // 80)
        buffer.due(1)
        (default,) = cells(ok(app, "status"))
        assert re.fullmatch(r"open; calls are refused: Redis is (79|80) % full", default["gate"])
        figures = json.loads(ok(app, "status", "--json"))["default"]
        assert figures["refusing"] is True
        assert figures["memory"] == pytest.approx(0.8, abs=0.02)
        client.config_set("maxmemory", 0)
        buffer.due(1)
        (default,) = cells(ok(app, "status"))
        assert default["gate"] == "open"


def test_status_as_json_holds_every_figure_plainly(app):
    bury(app, *["bad"] * 1_000)
    printed = ok(app, "status", "--json")
    assert printed.count("\n") == 1
    figures = json.loads(printed)
    assert list(figures) == ["default", "marketing"]
    percentiles = {"p50", "p95", "p99"}
    assert set(figures["default"]) == set(Snapshot.__dataclass_fields__) | percentiles
    size = figures["default"]["dead"]["bytes"]
    assert figures["default"]["dead"] == {"messages": 1_000, "bytes": size, "batches": 1}
    gate = {"state": "open", "reason": "", "seconds": 0, "refused": False}
    assert figures["default"]["gate"] == gate


def test_status_shows_how_long_what_was_delivered_took_within_the_last_hour(app, redis):
    buffer = buffer_of(app)
    for age in (*[12] * 90, *[40] * 8, *[150] * 2):
        store(app, "a")
        (batch,) = buffer.claim(1)
        let_pass(redis, age)
        buffer.ack(buffer.begin(batch.id, "token"), "200")
    # What was delivered the day before is left out.
    before = redis.time()[0] // 300 - 200
    redis.hset(f"{{segment:default}}:history:{before}", "latency:20", 10_000)
    default, marketing = cells(ok(app, "status"))
    assert re.fullmatch(r"1\d s", default["p50"])
    assert re.fullmatch(r"[345]\d s", default["p95"])
    assert re.fullmatch(r"[234] min( \d+ s)?", default["p99"])
    assert marketing["p99"] == "-"
    figures = json.loads(ok(app, "status", "--json"))
    assert figures["marketing"]["p50"] is None
    assert 10 < figures["default"]["p50"] < 20
    total = 90 * 12 + 8 * 40 + 2 * 150
    assert figures["default"]["latency"]["sum"] == pytest.approx(total, rel=0.1)
    shards = cells(ok(app, "status", "--shards"))
    assert shards[0]["p99"] == default["p99"]


def test_status_on_a_narrow_terminal_has_a_column_for_each_source(app, redis_server, tmp_path):
    store(app, *["a"] * 1_234)
    env = environ(broker_url=redis_server.url, segment_sources=SOURCES) | {"COLUMNS": "60"}
    with Terminal(["-C", "-A", "workerapp", "segment", "status"], env, tmp_path) as terminal:
        lines = [line.split() for line in terminal.read().splitlines()]
        assert terminal.process.wait() == 0
    assert ["source", "default", "marketing"] in lines
    assert ["accepted", "1,234", "0"] in lines
    assert ["gate", "open", "open"] in lines


def test_watch_goes_on_while_redis_is_away_until_interrupted(tmp_path):
    with EmbeddedRedis(tmp_path) as server:
        args = ["-A", "workerapp", "segment", "status", "--watch"]
        with Terminal(args, environ(broker_url=server.url), tmp_path) as terminal:
            terminal.read("open")
            server.stop()
            terminal.read("unreachable")
            server.start()
            terminal.output = ""
            terminal.read("open")
            terminal.process.send_signal(signal.SIGINT)
            shown = terminal.read()
            assert terminal.process.wait() == 0
    assert "Aborted" not in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize("option", ["--json", "--source=default"])
def test_watch_into_a_pipe_prints_each_look(app, monkeypatch, option):
    pauses = []

    def sleep(seconds):
        store(app, "a")
        pauses.append(seconds)
        if len(pauses) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("celery_segment.cli.status.time", SimpleNamespace(sleep=sleep))
    lines = ok(app, "status", "--watch", option).splitlines()
    rows = [line for line in lines if "default" in line]
    assert [re.findall(r"\d+", row)[0] for row in rows] == ["0", "1", "2"]
    assert pauses == [1.0] * 3


@pytest.mark.usefixtures("server")
def test_watch_shows_rates_latencies_and_workers(app, redis_server, workers, tmp_path):
    worker = workers.start(app, processes=1)
    env = environ(broker_url=redis_server.url) | {"COLUMNS": "60"}
    args = ["-C", "-A", "workerapp", "segment", "status", "--watch"]
    with Terminal(args, env, tmp_path) as terminal:
        terminal.read(f"workers: 1: {worker.name}")
        before = time.monotonic()
        while not re.search(r"delivered/s +[1-9][\d.]*\s", terminal.output):
            store(app, *["a"] * 20)
            terminal.read_more()
            assert time.monotonic() - before < 30
        assert re.search(r"accepted/s +[1-9]", terminal.output)
        assert re.search(r"p99 +\d+(\.\d)? m?s", terminal.output)
        worker.kill()
        terminal.output = ""
        terminal.read("workers: none answers")
        terminal.process.send_signal(signal.SIGINT)
        shown = terminal.read()
        assert terminal.process.wait() == 0
    assert "Traceback" not in shown


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (None, "workers: asking them"),
        (Present(), "workers: none answers"),
        (Present(("a@x", "b\n\x1b@y")), "workers: 2: a@x, b \N{REPLACEMENT CHARACTER}@y"),
        (Present(tuple("abcdefghijklm")), "workers: 13: a, b, c, d, e, f, g, h, i, j and 3 more"),
        (Present(problem="it is off"), "workers: cannot be asked: it is off"),
    ],
)
def test_the_line_about_the_workers(found, line):
    assert _workers(found).plain == line
