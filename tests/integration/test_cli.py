"""`celery segment …`: as a process through Celery's entry point, and in this process."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from types import SimpleNamespace

import pytest

from celery_segment import Analytics, track
from celery_segment.buffer import Snapshot, buffer_of
from celery_segment.cli.common import counted, duration, one_line
from celery_segment.testing import EmbeddedRedis
from commands import Terminal, command, environ, failed, ok, process, run
from support import TESTS, WRITE_KEY

SOURCES = {"marketing": {"write_key": f"{WRITE_KEY}2"}}


@pytest.fixture
def app(make_app):
    return make_app(segment_sources=SOURCES)


def store(app, *events, source="default"):
    with Analytics(source, app=app).batch():
        for event in events:
            track(user_id="u", event=event, source=source)


def bury(app, *events, reason="400 Bad Request", source="default"):
    """Store events as one batch that was given up; return its id."""
    buffer = buffer_of(app, source)
    store(app, *events, source=source)
    (batch,) = buffer.claim(1, whatever_waits=True)
    buffer.bury(buffer.begin(batch.id, "token"), reason, answered=True)
    return batch.id


def cells(table):
    """Return a table's rows: the cells stand two spaces apart."""
    header, _, *rows = table.rstrip().splitlines()
    names = re.split(r" {2,}", header.strip())
    found = [re.split(r" {2,}", row.strip()) for row in rows]
    return [dict(zip(names, row, strict=True)) for row in found]


# ---------------------------------------------------------------- status


def test_status_shows_a_row_for_each_source(app):
    bury(app, *["bad"] * 1_000)
    store(app, "a", "b")
    buffer_of(app).mark()
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
        "gate": "open",
    }
    assert marketing["source"] == "marketing"
    assert marketing["accepted"] == "0"
    assert marketing["oldest"] == "-"
    assert marketing["gate"] == "paused"


def test_status_of_named_sources_alone(app):
    rows = cells(ok(app, "status", "--source", "marketing", "--source", "marketing"))
    assert [row["source"] for row in rows] == ["marketing"]


def test_status_tells_why_and_for_how_long_a_source_is_closed(app):
    buffer = buffer_of(app)
    store(app, "a")
    (batch,) = buffer.claim(1, whatever_waits=True)
    held = buffer.begin(batch.id, "token")
    cause = "401 Unauthorized: [bold]\x1b[31m\nwho are you" + " and what" * 20
    buffer.retry(held, "refused", 0.0, cause, breaker=(1, 90.0, 90.0))
    default, _ = cells(ok(app, "status"))
    expected = (
        "401 Unauthorized: [bold]\N{REPLACEMENT CHARACTER}[31m who are you" + " and what" * 20
    )
    assert default["gate"] == f"closed for 1 min 30 s: {expected}"
    assert default["in flight"] == default["retries"] == "1"


def test_status_as_json_holds_every_figure_plainly(app):
    bury(app, *["bad"] * 1_000)
    printed = ok(app, "status", "--json")
    assert printed.count("\n") == 1
    figures = json.loads(printed)
    assert list(figures) == ["default", "marketing"]
    assert set(figures["default"]) == set(Snapshot.__dataclass_fields__)
    assert figures["default"]["dead"] == 1_000
    assert figures["default"]["gate"] == "open"


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
            terminal.read("out of reach")
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


# ---------------------------------------------------------------- flush


def test_flush_with_nothing_stored(app):
    assert ok(app, "flush") == "default: nothing remains\nmarketing: nothing remains\n"


def test_flush_without_a_worker_says_so(app):
    store(app, *["a"] * 1_234)
    result = run(app, "flush", "--timeout", "0.1")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "default: 1,234 messages remain: no worker answers; start one with `celery worker`",
        "marketing: nothing remains",
    ]


def test_flush_does_not_wait_for_a_paused_source(app):
    store(app, "a", source="marketing")
    ok(app, "pause")
    started = time.monotonic()
    result = run(app, "flush", "--source", "marketing", "--json")
    assert time.monotonic() - started < 5
    assert result.exit_code == 1
    found = json.loads(result.stdout)["marketing"]
    assert found["remaining"] == 1
    assert found["reason"] == (
        "1 message remains: the source is paused;"
        " `celery segment resume --source marketing` opens it"
    )


def test_flush_tells_what_closed_the_source(app):
    buffer = buffer_of(app)
    store(app, "a")
    (batch,) = buffer.claim(1, whatever_waits=True)
    held = buffer.begin(batch.id, "token")
    buffer.retry(held, "refused", 0.0, "404 Not Found", breaker=(1, 90.0, 90.0))
    result = run(app, "flush", "--timeout", "0", "--source", "default")
    assert result.exit_code == 1
    assert "1 message remains: the source is closed for 1 min 30 s: 404 Not" in result.stdout


def test_flush_with_the_broker_away_says_so_quickly(make_app, redis_server, caplog):
    away = "redis://127.0.0.1:1/0"
    app = make_app(broker_url=away, segment_redis_url=redis_server.url)
    store(app, "a")
    started = time.monotonic()
    result = run(app, "flush", "--timeout", "0.1")
    assert time.monotonic() - started < 5
    assert result.exit_code == 1
    assert "1 message remains: the broker is out of reach" in result.stdout
    assert "no worker was woken" in caplog.text


# ---------------------------------------------------------------- pause, resume


def test_pause_and_resume_tell_what_they_did(app):
    analytics = Analytics(app=app)
    assert ok(app, "pause", "--source", "default").startswith("default: paused;")
    assert ok(app, "pause") == (
        "default: was paused already\n"
        "marketing: paused; calls are stored, and delivered once it is resumed\n"
    )
    assert analytics.stats().gate == "paused"
    assert ok(app, "resume", "--source", "default") == "default: resumed; the workers deliver\n"
    assert analytics.stats().gate == "open"
    assert Analytics("marketing", app=app).stats().gate == "paused"
    assert ok(app, "resume").count("resumed; the workers deliver") == 2


def test_resume_tells_that_the_endpoints_own_wait_still_holds(app):
    buffer = buffer_of(app)
    store(app, "a")
    (batch,) = buffer.claim(1, whatever_waits=True)
    held = buffer.begin(batch.id, "token")
    buffer.retry(held, "asked", 200.0, "429, Retry-After 200 s", breaker=(5, 1.0, 60.0))
    ok(app, "pause")
    assert ok(app, "resume", "--source", "default") == (
        "default: resumed, but the endpoint asked for a wait (Retry-After):"
        " delivery goes on in 3 min 20 s\n"
    )


# ---------------------------------------------------------------- dead


def test_dead_list_is_a_table_with_a_line_for_each(app):
    reason = "400 Bad Request: " + "very long and [not markup] " * 7
    first, second = bury(app, *["bad"] * 1_000, reason=reason), bury(app, "worse")
    before, after = cells(ok(app, "dead", "list"))
    assert [before["batch"], after["batch"]] == [first, second]
    assert [before["messages"], after["messages"]] == ["1,000", "1"]
    assert before["reason"] == reason.strip()
    letter = next(iter(Analytics(app=app).dead_letters))
    assert before["bytes"] == f"{letter.bytes:,}"
    when = datetime.strptime(before["when"], "%Y-%m-%d %H:%M:%S").astimezone()
    assert when == datetime.fromtimestamp(int(letter.buried), timezone.utc)


def test_dead_list_as_json(app):
    batch = bury(app, "bad", reason="422 Unprocessable", source="marketing")
    assert ok(app, "dead", "list") == "default: no dead letters\n"
    assert json.loads(ok(app, "dead", "list", "--json")) == []
    (letter,) = json.loads(ok(app, "dead", "list", "--source", "marketing", "--json"))
    assert letter["id"] == batch
    assert letter["messages"] == 1
    assert letter["reason"] == "422 Unprocessable"
    assert letter["buried"] == pytest.approx(time.time(), abs=10)


def test_dead_show_prints_the_messages(app):
    event = "Zürich \x1b[31m \u009b31m"
    batch = bury(app, event, "second")
    pretty, plain = ok(app, "dead", "show", batch), ok(app, "dead", "show", batch, "--json")
    assert "Zürich" in pretty
    assert "\u009b" not in pretty
    assert plain.count("\n") == 1 < pretty.count("\n")
    assert json.loads(pretty) == json.loads(plain)
    assert [message["event"] for message in json.loads(plain)] == [event, "second"]


def test_dead_show_of_what_is_no_dead_letter(app):
    store(app, "a")
    waiting = str(buffer_of(app).mark())
    expected = f"Error: default: no dead letter of this id: {waiting}; see `dead list`\n"
    assert failed(app, "dead", "show", waiting) == expected


def test_dead_replay_of_named_batches(app, redis):
    first, second, third = bury(app, "a", "b"), bury(app, "c"), bury(app, "d")
    redis.delete("celery")
    assert ok(app, "dead", "replay", first, third, first) == "default: replayed 3 messages\n"
    assert [letter.id for letter in Analytics(app=app).dead_letters] == [second]
    assert Analytics(app=app).stats().ready == 3
    (woken,) = redis.lrange("celery", 0, -1)
    assert json.loads(woken)["headers"]["task"] == "segment.drain"


def test_dead_replay_of_all(app):
    for _ in range(3):
        bury(app, "a", "b")
    bury(app, "other", source="marketing")
    assert ok(app, "dead", "replay", "--all") == "default: replayed 6 messages\n"
    assert ok(app, "dead", "replay", "--all") == "default: replayed 0 messages\n"
    assert Analytics("marketing", app=app).stats().dead == 1
    assert ok(app, "dead", "replay", "--all", "--source", "marketing").endswith("1 message\n")


@pytest.mark.parametrize("what", ["replay", "purge"])
def test_unknown_ids_are_told_and_the_others_done(app, what):
    batch = bury(app, "a", "b")
    result = run(app, "dead", what, "no\nsuch", batch, "77")
    assert result.exit_code == 1
    assert result.stdout == f"default: {what}{'d' if what[-1] == 'e' else 'ed'} 2 messages\n"
    expected = "Error: default: no dead letter of this id: no such, 77; see `dead list`\n"
    assert result.stderr == expected
    assert failed(app, "dead", what, batch) == expected.replace("no such, 77", batch)


@pytest.mark.parametrize("what", ["replay", "purge"])
@pytest.mark.parametrize("args", [(), ("1", "--all"), ("1", "--since=1d"), ("--all", "--reason=x")])
def test_replay_and_purge_need_ids_or_all(app, what, args):
    bury(app, "a")
    result = run(app, "dead", what, *args)
    assert result.exit_code == 2
    assert "Give batch ids, as `dead list` shows them, or --all, or --reason" in result.stderr
    assert Analytics(app=app).stats().dead == 1


def test_dead_purge_of_named_batches_does_not_ask(app):
    first, second = bury(app, "a", "b"), bury(app, "c")
    assert ok(app, "dead", "purge", first) == "default: purged 2 messages\n"
    assert [letter.id for letter in Analytics(app=app).dead_letters] == [second]
    assert Analytics(app=app).stats().purged == 2


@pytest.mark.parametrize("answer", ["n\n", ""], ids=["no", "no terminal"])
def test_dead_purge_of_all_asks_first(app, answer):
    bury(app, *["a"] * 1_000)
    said = failed(app, "dead", "purge", "--all", answer=answer)
    assert said.startswith("default: delete 1,000 messages for good? [y/N]:")
    assert Analytics(app=app).stats().dead == 1_000


@pytest.mark.parametrize("options", [{"answer": "y\n"}, {}], ids=["asked", "told"])
def test_dead_purge_of_all(app, options):
    for _ in range(2):
        bury(app, *["a"] * 1_000)
    args = () if options else ("--yes",)
    assert ok(app, "dead", "purge", "--all", *args, **options).endswith("purged 2,000 messages\n")
    assert ok(app, "dead", "purge", "--all") == "default: purged 0 messages\n"


def test_dead_show_prints_every_digit_of_a_number(app):
    digits = "0.12345678901234567890123"
    with Analytics(app=app).batch():
        track(user_id="u", event="E", properties={"exact": Decimal(digits), "large": 10**30})
    batch = bury(app)
    for shown in (ok(app, "dead", "show", batch), ok(app, "dead", "show", batch, "--json")):
        assert digits in shown
        assert str(10**30) in shown


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
    assert ok(app, "dead", "list", "--reason", "503") == "default: no dead letters of these\n"


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
    assert "an empty text chooses nothing" in result.stderr
    assert letters.old in {letter.id for letter in Analytics(app=app).dead_letters}


def test_dead_replay_of_the_chosen(app, letters):
    done = ok(app, "dead", "replay", "--reason", "400", "--since", "1d")
    assert done == "default: replayed 1 message\n"
    left = [letter.id for letter in Analytics(app=app).dead_letters]
    assert left == [letters.old, letters.middle]
    assert ok(app, "dead", "replay", "--since", "1h") == "default: replayed 0 messages\n"


def test_dead_purge_of_the_chosen_asks_first(app, letters):
    said = failed(app, "dead", "purge", "--until", "7d", answer="n\n")
    assert said.startswith("default: delete 1 message for good? [y/N]:")
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
    assert said == f"Error: {file} is there already; --force replaces a file\n"
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
    assert Analytics(app=app).stats().dead == 3


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


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "args",
    [
        ("status",),
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
def test_every_command_tells_errors_in_one_line(app, make_app, args):
    expected = "Error: source 'sales' is not configured: add it to segment_sources"
    said = failed(app, *args, "--source", "sales")
    assert said == f"{expected} (configured: default, marketing)\n"
    away = make_app(segment_redis_url="redis://user:passw0rd@127.0.0.1:1/0")
    said = failed(away, *args)
    assert said.startswith("Error: Redis at 127.0.0.1:1 is out of reach (")
    assert said.count("\n") == 1
    assert "passw0rd" not in said


def test_a_wrong_setting_is_told_in_one_line(make_app):
    app = make_app(segment_flush_at=0)
    assert failed(app, "status") == "Error: segment_flush_at must be at least 1, not 0\n"


def test_an_unknown_command_is_refused(app):
    result = run(app, "stauts")
    assert result.exit_code == 2
    assert "No such command 'stauts'" in result.stderr


# ---------------------------------------------------------------- real processes


def test_the_operators_day(make_app, redis_server, server, workers, tmp_path):
    """Real commands beside a real worker: bad data is found, shown, mended and delivered."""
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
    (row,) = cells(celery("status").stdout)
    assert (row["delivered"], row["dead"], row["gate"]) == ("2", "1", "open")
    (letter,) = json.loads(celery("dead", "list", "--json").stdout)
    (shown,) = json.loads(celery("dead", "show", letter["id"]).stdout)
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
    assert done.stderr.startswith("Error: Redis at 127.0.0.1:1 is out of reach (")
    assert done.stderr.count("\n") == 1
    assert "passw0rd" not in done.stderr


def test_the_example_configuration_without_an_application(redis, redis_server):  # noqa: ARG001
    env = {**os.environ, "REDIS_URL": redis_server.url, "SEGMENT_WRITE_KEY": WRITE_KEY}
    args = ["--config", "celeryconfig", "segment", "status", "--json"]
    done = process(args, env, TESTS.parent)
    assert done.returncode == 0, done.stderr
    assert list(json.loads(done.stdout)) == ["default", "marketing"]


# ---------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (3_600, "1 h"),
        (3_605, "1 h"),
        (7_500, "2 h 5 min"),
        (86_400 * 3 + 7_200, "3 d 2 h"),
    ],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_words():
    assert counted(1, "message") == "1 message"
    assert counted(0, "message") == "0 messages"
    assert counted(1_234, "message") == "1,234 messages"
    assert one_line(" a\n b\x07\x1b[2J\u202e") == "a b" + "\N{REPLACEMENT CHARACTER}" + (
        "\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}"
    )


def test_another_application_of_the_environment_gets_nothing_of_it():
    script = (
        "import sys, celery.bin.celery\n"
        "assert 'segment' in celery.bin.celery.celery.commands\n"
        "ours = {'celery_segment', 'rich', 'requests'}\n"
        "print(*(m for m in sys.modules if m.partition('.')[0] in ours))"
    )
    command = [sys.executable, "-c", script]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "\n"
