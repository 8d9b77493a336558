"""The commands as processes, and what they print of errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from celery import current_app

from commands import Terminal, environ, failed, ok, process, run
from operating import cells, store
from support import TESTS, WRITE_KEY

# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "args",
    [
        ("status",),
        ("tail",),
        ("flush",),
        ("pause",),
        ("resume",),
        ("dead", "list"),
        ("dead", "show", "1"),
        ("dead", "replay", "1"),
        ("dead", "purge", "--all"),
        ("dead", "export", "-"),
    ],
    ids=" ".join,
)
def test_every_command_reports_errors_in_one_line(app, make_app, args):
    expected = "Error: source 'sales' is not configured: add it to segment_sources"
    said = failed(app, *args, "--source", "sales")
    assert said == f"{expected} (configured: default, marketing)\n"
    away = make_app(segment_redis_url="redis://user:passw0rd@127.0.0.1:1/0")
    said = failed(away, *args)
    assert said.startswith("Error: Redis at 127.0.0.1:1 is unreachable (")
    assert said.count("\n") == 1
    assert "passw0rd" not in said


def test_a_wrong_setting_is_an_error_of_one_line(make_app):
    app = make_app(segment_flush_at=0)
    assert failed(app, "status") == "Error: segment_flush_at must be at least 1, not 0\n"


def test_an_unknown_command_is_refused(app):
    result = run(app, "stauts")
    assert result.exit_code == 2
    assert "No such command 'stauts'" in result.stderr


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("status",), "default"),
        (("status", "--json"), '"default"'),
        (("flush", "--timeout", "5"), ""),
        (("deliver",), ""),
        (("pause",), ""),
        (("resume",), ""),
        (("dead", "list"), ""),
        (("metrics", "--once"), "segment_messages_accepted_total"),
        (("rename", "old", "default"), ""),
        (("check", "--no-endpoint"), "no worker answers"),
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("app")
def test_every_command_takes_celerys_proxy_for_an_application(args, expected):
    """As in a project whose celery.py has `app = current_app`."""
    assert expected in ok(current_app, *args)


# ---------------------------------------------------------------- real processes


def test_a_project_whose_application_is_celerys_proxy(redis, redis_server, server, tmp_path):
    (tmp_path / "shop.py").write_text(
        "from celery import current_app\nimport workerapp\nworkerapp.app.set_default()\n"
        "from celery_segment import Analytics\napp = current_app\n"
        "Analytics(app=app).track.delay(user_id='u', event='E')\n"
    )
    env = environ(broker_url=redis_server.url, segment_host=server.url)
    done = process(["-A", "shop", "segment", "deliver"], env, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(server.received) == 1
    assert redis.hget("{segment:default}:stats", "delivered") == b"1"


def test_the_operators_day(make_app, redis_server, server, workers, tmp_path):
    """Bad data is found, shown, fixed and delivered; what changes something is a real process."""
    app = make_app(segment_flush_interval=0.5)
    server.fail_messages(lambda message: message["event"] == "bad")
    env = environ(broker_url=redis_server.url, segment_host=server.url)

    def celery(*args):
        return process(["-A", "workerapp", "segment", *args], env, tmp_path)

    worker = workers.start(app)
    store(app, "good", "bad", "good")
    flushed = celery("flush", "--timeout", "20")
    assert (flushed.returncode, flushed.stdout) == (0, "default: nothing remains\n")
    assert flushed.stderr == ""
    (row,) = cells(ok(app, "status"))
    assert (row["delivered"], row["dead"], row["gate"]) == ("2", "1", "open")
    (letter,) = json.loads(ok(app, "dead", "list", "--json"))
    (shown,) = json.loads(ok(app, "dead", "show", letter["id"]))
    assert shown["event"] == "bad"
    server.restore()
    assert celery("dead", "replay", letter["id"]).stdout == "default: replayed 1 message\n"
    assert server.wait_for_messages(3, timeout=10)
    assert shown["messageId"] in server.received
    assert WRITE_KEY not in worker.output


def test_flush_shows_a_progress_bar_on_a_terminal(make_app, redis_server, workers, tmp_path):
    app = make_app()
    store(app, *["a"] * 1_234)
    args = ["-A", "workerapp", "segment", "flush", "--json"]
    with Terminal(args, environ(broker_url=redis_server.url), tmp_path) as terminal:
        terminal.read("0 of 1,234 messages")
        workers.start(app)
        shown = terminal.read()
        assert terminal.process.wait() == 0
    assert '{"default": {"remaining": 0, "reason": null}}' in shown


def test_redis_away_in_a_real_process(tmp_path):
    env = environ(broker_url="redis://:passw0rd@127.0.0.1:1/0")
    done = process(["-A", "workerapp", "segment", "status"], env, tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: Redis at 127.0.0.1:1 is unreachable (")
    assert done.stderr.count("\n") == 1
    assert "passw0rd" not in done.stderr


def test_the_example_configuration_without_an_application(redis, redis_server):  # noqa: ARG001
    env = {**os.environ, "REDIS_URL": redis_server.url, "SEGMENT_WRITE_KEY": WRITE_KEY}
    args = ["--config", "celeryconfig", "segment", "status", "--json"]
    done = process(args, env, TESTS.parent)
    assert done.returncode == 0, done.stderr
    assert list(json.loads(done.stdout)) == ["default", "marketing"]


# ---------------------------------------------------------------- words


def test_another_application_of_the_environment_gets_nothing_of_it():
    script = (
        "import sys, celery.bin.celery\n"
        "assert 'segment' in celery.bin.celery.celery.commands\n"
        "ours = {'celery_segment', 'rich', 'requests'}\n"
        "print(*(m for m in sys.modules if m.partition('.')[0] in ours))"
    )
    command = [sys.executable, "-c", script]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "\n"
