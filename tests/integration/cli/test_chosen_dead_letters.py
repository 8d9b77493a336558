"""Dead letters chosen by time and reason: listed, replayed, purged, exported."""

from __future__ import annotations

import json
import subprocess
import time
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest

from celery_segment import Analytics
from commands import Terminal, command, environ, failed, ok, run
from operating import bury


@pytest.fixture
def letters(app, redis):
    """Three dead letters: of an hour, of a day and of ten days ago."""
    reasons = ("400 Bad Request", "422 Unprocessable", "400 Bad Request: too old")
    ages = (3_600, 86_400, 864_000)
    batches = []
    for reason, age in zip(reasons, ages, strict=True):
        batches.append(bury(app, f"{age} s ago", reason=reason))
        at = int((time.time() - age) * 1_000)
        redis.zadd("{segment:default}:dead", {batches[-1]: at})
        redis.hset(f"{{segment:default}}:meta:{batches[-1]}", "buried", at)
    return SimpleNamespace(young=batches[0], middle=batches[1], old=batches[2])


def test_dead_list_of_the_chosen(app, letters):
    def listed(*args):
        return [each["id"] for each in json.loads(ok(app, "dead", "list", "--json", *args))]

    old, middle, young = letters.old, letters.middle, letters.young
    assert listed() == [old, middle, young]
    assert listed("--reason", "bad request") == [old, young]
    assert listed("--since", "2h") == listed("--since", "7199s") == [young]
    assert listed("--until", "30m") == [old, middle, young]
    assert listed("--until", "90m", "--reason", "400") == [old]
    assert listed("--since", "7d", "--until", "12h") == [middle]
    hour_and_a_half_ago = datetime.now(timezone.utc) - timedelta(minutes=90)
    zulu = f"{hour_and_a_half_ago:%Y-%m-%dT%H:%M:%SZ}"
    local = f"{hour_and_a_half_ago.astimezone():%Y-%m-%d %H:%M}"
    day = f"{datetime.now().astimezone() - timedelta(days=5):%Y-%m-%d}"
    assert listed("--since", zulu) == listed("--since", local) == [young]
    assert listed("--since", day) == [middle, young]
    assert ok(app, "dead", "list", "--reason", "503") == "default: no dead letters that match\n"


@pytest.mark.parametrize(
    "given",
    ["yesterday", "", "2w", "-1h", "1.5h", "h", "2026-13-01", "9" * 400 + "d", "0001-01-01"],
)
def test_a_time_that_is_none_is_refused_with_what_it_may_be(app, given):
    result = run(app, "dead", "list", "--since", given)
    assert result.exit_code == 2
    assert "nor an age such as 2h, 30m or 7d" in result.stderr


@pytest.mark.parametrize("what", ["list", "replay", "purge"])
def test_an_empty_reason_chooses_nothing(app, letters, what):
    result = run(app, "dead", what, "--reason", "")
    assert result.exit_code == 2
    assert "must not be empty: leave the option out" in result.stderr
    assert letters.old in {letter.id for letter in Analytics(app=app).dead_letters}


def test_dead_replay_of_the_chosen(app, letters):
    done = ok(app, "dead", "replay", "--reason", "400", "--since", "1d")
    assert done == "default: replayed 1 message\n"
    left = [letter.id for letter in Analytics(app=app).dead_letters]
    assert left == [letters.old, letters.middle]
    assert ok(app, "dead", "replay", "--since", "1h") == "default: replayed 0 messages\n"


def test_dead_purge_of_the_chosen_asks_first(app, letters):
    said = failed(app, "dead", "purge", "--until", "7d", answer="n\n")
    assert said.startswith("default: delete 1 message permanently? [y/N]:")
    assert ok(app, "dead", "purge", "--until", "7d", "--yes") == "default: purged 1 message\n"
    left = [letter.id for letter in Analytics(app=app).dead_letters]
    assert left == [letters.middle, letters.young]


def test_dead_export_to_a_file(app, letters, tmp_path):
    file = tmp_path / "dead.ndjson"
    done = ok(app, "dead", "export", str(file), "--reason", "400")
    assert done == f"default: exported 2 messages to {file}\n"
    lines = [json.loads(line) for line in file.read_bytes().splitlines()]
    assert [line["batch"] for line in lines] == [letters.old, letters.young]
    assert [line["message"]["event"] for line in lines] == ["864000 s ago", "3600 s ago"]
    said = failed(app, "dead", "export", str(file), "--purge")
    assert said == f"Error: {file} exists already: replace it with --force\n"
    done = ok(app, "dead", "export", str(file), "--force", "--purge", "--since", "2d")
    assert done == f"default: exported 2 messages to {file}, purged 2\n"
    assert len(file.read_bytes().splitlines()) == 2
    assert [letter.id for letter in Analytics(app=app).dead_letters] == [letters.old]


def test_dead_export_where_no_file_can_be(app, letters, tmp_path):
    said = failed(app, "dead", "export", str(tmp_path / "no" / "file"), "--purge")
    assert said.endswith("/no/file: No such file or directory; no dead letter was deleted\n")
    assert said.count("\n") == 1
    assert letters.old in Analytics(app=app).dead_letters


@pytest.mark.usefixtures("letters")
def test_dead_export_to_the_output(app):
    result = run(app, "dead", "export", "-", "--until", "2h")
    assert (result.exit_code, result.stderr) == (0, "default: exported 2 messages\n")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["message"]["event"] for line in lines] == ["864000 s ago", "86400 s ago"]
    result = run(app, "dead", "export", "-", "--purge")
    assert result.exit_code == 2
    assert "--purge needs a FILE" in result.stderr
    assert Analytics(app=app).stats().dead.messages == 3


def test_dead_export_on_a_terminal_and_into_a_pipe(make_app, redis_server, tmp_path):
    app = make_app()
    event = "Zürich \x1b[31m \u009b31m"
    bury(app, *[event] * 2_000)
    env = environ(broker_url=redis_server.url)
    args = ["-A", "workerapp", "segment", "dead", "export", "-"]
    with Terminal(args, env, tmp_path) as terminal:
        shown = terminal.read()
        assert terminal.process.wait() == 0
    assert "Zürich" in shown
    assert "\\u009b31m" in shown
    assert "\u009b" not in shown
    piped = subprocess.run(command(*args), env=env, cwd=tmp_path, capture_output=True, check=True)
    lines = [json.loads(line)["message"]["event"] for line in piped.stdout.splitlines()]
    assert lines == [event] * 2_000
    assert "\u009b".encode() in piped.stdout
    # Who reads no further ends it without a traceback.
    with subprocess.Popen(
        command(*args), env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as cut:
        cut.stdout.readline()
        cut.stdout.close()
        assert b"Traceback" not in cut.stderr.read()
        assert cut.wait() == 1
