"""`celery segment import` on a real Redis: what is taken, refused, waited for and resumed."""

from __future__ import annotations

import errno
import fcntl
import gzip
import itertools
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections import Counter

import pytest

from celery_segment import Analytics
from celery_segment.buffer import Buffer, buffer_of
from celery_segment.errors import ImportRefused
from celery_segment.importing import Import, Watch, reading
from celery_segment.importing.rejects import Rejects
from celery_segment.testing import EmbeddedRedis, SegmentServer
from commands import Terminal, command, environ, failed, ok, run
from support import WRITE_KEY, wait_until

WHEN = "2025-03-01T07:00:00.123Z"
SOURCES = {"marketing": {"write_key": f"{WRITE_KEY}2"}, "off": {"enabled": False}}
BAD = (b"nonsense", b'{"type": "track", "event": "E", "timestamp": "%b"}' % WHEN.encode(), b"\xff")


@pytest.fixture
def app(make_app):
    return make_app(segment_sources=SOURCES)


def line(number: int, **fields) -> bytes:
    event = {"type": "track", "userId": f"u{number}", "event": "E", "timestamp": WHEN}
    return json.dumps({**event, "properties": {"n": number}, **fields}).encode()


@pytest.fixture
def file(tmp_path):
    """Forty lines, each eighth of them bad."""
    path = tmp_path / "events.ndjson"
    write(path, 40)
    return path


def write(path, lines, bad_each=8, padding=0):
    """Write so many lines, one of so many bad."""
    with path.open("wb") as stream:
        for n in range(lines):
            more = {"context": {"padding": "x" * padding}} if padding else {}
            stream.write((BAD[n % len(BAD)] if n % bad_each == 7 else line(n, **more)) + b"\n")


def stored(app, source="default"):
    """Return all stored messages, in their order."""
    buffer = buffer_of(app, source)
    buffer.mark()
    return [
        json.loads(data)
        for batch in buffer._pool.command("ZRANGE", f"{{segment:{source}}}:ready", 0, -1)
        for data in buffer.messages(batch.decode())
    ]


def numbers(app):
    return [message["properties"]["n"] for message in stored(app)]


def rejects_of(path):
    return [json.loads(each) for each in path.read_bytes().splitlines()]


GOOD = [n for n in range(40) if n % 8 != 7]

# ---------------------------------------------------------------- what is taken


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("form", ["ndjson", "csv"])
def test_every_format(app, redis, tmp_path, form, packed):
    if form == "ndjson":
        parts = [b"".join(line(n) + b"\n" for n in ns) for ns in (range(20), range(20, 40))]
    else:
        rows = [f"u{n},E,{WHEN},{n}\n".encode() for n in range(40)]
        parts = [b"userId,event,timestamp,properties.n\n", *rows]
    path = tmp_path / f"events.{form}{'.gz' if packed else ''}"
    # Several members in one file, as `cat a.gz b.gz` makes it.
    path.write_bytes(b"".join(gzip.compress(part) if packed else part for part in parts))
    args = ["--type", "track"] if form == "csv" else []
    done = ok(app, "import", str(path), *args)
    assert done == f"{path}: imported 40 messages\n"
    assert numbers(app) == list(range(40))
    assert {m["messageId"][:7] for m in stored(app)} == {"import-"}
    assert stored(app)[7]["timestamp"] == WHEN
    assert redis.llen("celery") == 1, "one worker is woken"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_the_standard_input(app, redis_server, tmp_path, packed):
    data = b"\n".join([line(1), b"nonsense", line(2)])
    args = ["-A", "workerapp", "segment", "import", "-", "--format", "ndjson"]
    done = subprocess.run(
        command(*args, "--source", "marketing"),
        input=gzip.compress(data) if packed else data,
        env=environ(broker_url=redis_server.url, segment_sources=SOURCES),
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.stdout == b"-: imported 2 messages, rejected 1: see stdin.rejects\n"
    assert (done.returncode, done.stderr) == (1, b"")
    assert [m["properties"]["n"] for m in stored(app, "marketing")] == [1, 2]
    (rejected,) = rejects_of(tmp_path / "stdin.rejects")
    assert (rejected["file"], rejected["line"]) == ("-", 2)
    assert [path.name for path in tmp_path.iterdir()] == ["stdin.rejects"]


def test_a_repeated_import_has_the_same_ids(app, tmp_path):
    first, second = tmp_path / "a.ndjson", tmp_path / "b.ndjson.gz"
    same = [line(1), line(2), line(1), line(3, messageId="own")]
    first.write_bytes(b"\n".join(same))
    second.write_bytes(gzip.compress(b"\r\n".join([line(0), *reversed(same)])))
    ok(app, "import", str(first))
    ids = [m["messageId"] for m in stored(app)]
    assert len(set(ids)) == 4
    assert ids[3] == "own"
    ok(app, "import", str(second), str(first))
    counts = Counter(m["messageId"] for m in stored(app))
    assert sorted(counts.values()) == [1, 3, 3, 3, 3]
    assert {i for i, times in counts.items() if times == 3} == set(ids)


def test_exported_dead_letters_are_imported_as_they_were(app, tmp_path):
    path = tmp_path / "dead.ndjson"
    path.write_bytes(line(1, messageId="m1") + b"\n" + line(2, messageId="m2"))
    ok(app, "import", str(path))
    buffer = buffer_of(app)
    (batch,) = buffer.claim(1, whatever_waits=True)
    buffer.bury(buffer.begin(batch.id, "token"), "400", answered=True)
    exported = tmp_path / "exported.ndjson"
    ok(app, "dead", "export", str(exported), "--purge")
    assert ok(app, "import", str(exported)) == f"{exported}: imported 2 messages\n"
    assert [m["messageId"] for m in stored(app)] == ["m1", "m2"]


# ---------------------------------------------------------------- what is rejected


def test_rejected_lines_are_kept_and_told(app, file):
    said = run(app, "import", str(file))
    rejects = file.with_name("events.ndjson.rejects")
    assert said.stdout == f"{file}: imported 35 messages, rejected 5: see {rejects}\n"
    assert (said.exit_code, said.stderr) == (1, "")
    assert numbers(app) == GOOD
    assert stat.S_IMODE(rejects.stat().st_mode) == 0o600
    found = rejects_of(rejects)
    assert [each["line"] for each in found] == [8, 16, 24, 32, 40]
    assert {each["file"] for each in found} == {str(file)}
    assert found[0]["field"] == "user_id"
    assert found[0]["reason"].startswith("give user_id or anonymous_id")
    assert json.loads(found[0]["content"])["event"] == "E"
    assert found[1]["field"] is None
    assert found[1]["reason"].startswith("is not a JSON object")
    assert found[1]["content"] == "nonsense"
    assert found[2]["reason"] == "is not UTF-8 (byte 0: invalid start byte)"
    assert found[2]["content_base64"] == "/w=="
    assert sorted(path.name for path in file.parent.iterdir()) == [file.name, rejects.name]


def test_what_was_mended_is_imported(app, file):
    assert run(app, "import", str(file)).exit_code == 1
    rejects = file.with_name("events.ndjson.rejects")
    said = run(app, "import", str(file))
    assert said.exit_code == 2
    assert said.stderr.startswith(f"Error: {rejects} is there from an earlier import: move it")
    contents = [each["content"] for each in rejects_of(rejects) if each["field"] == "user_id"]
    mended = file.with_name("mended.ndjson")
    mended.write_text("\n".join(c.replace('"event"', '"userId": "u", "event"') for c in contents))
    assert ok(app, "import", str(mended)) == f"{mended}: imported 2 messages\n"


def test_another_place_for_the_rejects(app, file, tmp_path):
    rejects = tmp_path / "elsewhere"
    assert failed(app, "import", str(file), "--rejects", str(rejects)) == ""
    assert len(rejects_of(rejects)) == 5


def test_a_dry_run_stores_nothing_and_shows_what_it_would_reject(app, redis, file, monkeypatch):
    before = list(file.parent.iterdir())
    said = run(app, "import", str(file), "--dry-run")
    assert said.exit_code == 1
    assert said.stdout == f"{file}: would import 35 messages, rejected 5\n"
    assert said.stderr.splitlines()[0].startswith(f"{file}:8: user_id: give user_id or")
    assert len(said.stderr.splitlines()) == 5
    assert redis.keys() == []
    assert list(file.parent.iterdir()) == before
    monkeypatch.setattr("celery_segment.cli.import_.SHOWN", 2)
    rejects = file.with_name("r")
    said = run(app, "import", str(file), "--dry-run", "--rejects", str(rejects))
    assert len(said.stderr.splitlines()) == 2
    assert len(rejects_of(rejects)) == 5
    assert redis.keys() == []


def test_the_figures_as_json(app, file, tmp_path):
    other = tmp_path / "other.ndjson"
    other.write_bytes(line(1))
    said = run(app, "import", str(file), str(other), "--json")
    assert said.exit_code == 1
    nothing = {"rejected": 0, "dropped": 0, "rejects": None, "finished": True}
    assert json.loads(said.stdout) == {
        str(file): {
            "taken": 35,
            "rejected": 5,
            "dropped": 0,
            "rejects": f"{file}.rejects",
            "finished": True,
        },
        str(other): {"taken": 1, **nothing},
    }


def test_the_sources_defaults_and_its_hook_are_the_calls(make_app, file):
    def hook(message):
        number = message["properties"].pop("n")
        if number == 2:
            raise KeyError("plan")
        return None if number == 1 else message

    context = {"app": {"name": "shop"}}
    app = make_app(segment_context=context, segment_before_send=hook)
    file.write_bytes(b"\n".join(map(line, range(4))))
    said = run(app, "import", str(file))
    assert said.stdout == (
        f"{file}: imported 2 messages, dropped 1 by segment_before_send, rejected 1:"
        f" see {file}.rejects\n"
    )
    found = stored(app)
    assert [message["userId"] for message in found] == ["u0", "u3"]
    assert {"properties": {}, "app": context["app"]} == {
        "properties": found[0]["properties"],
        "app": found[0]["context"]["app"],
    }
    (rejected,) = rejects_of(file.with_name("events.ndjson.rejects"))
    assert rejected["line"] == 3
    assert rejected["reason"] == "segment_before_send raised KeyError: 'plan'"


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["no.ndjson"], "does not exist"),
        (["-"], "-: the name tells no format: give --format"),
        (["events.txt"], "events.txt: the name tells no format"),
        (["events.csv"], "events.csv: column 'x' is no field of a message"),
        (["events.ndjson", "events.csv"], "events.csv: column 'x' is no field of a message"),
        (["events.ndjson", "--format", "xml"], "'xml' is not one of 'ndjson', 'csv'"),
        (["events.ndjson", "--type", "buy"], "'buy' is not one of"),
        (["events.ndjson", "--source", "sales"], "source 'sales' is not configured"),
        (["events.ndjson", "--source", "off"], "source 'off' is not enabled"),
        (["events.ndjson", "other.ndjson", "--rejects", "r"], "are for one file"),
        (["events.ndjson", "other.ndjson", "--checkpoint", "c"], "are for one file"),
        (["events.ndjson", "--text", "properties.n"], "--text is for the columns of CSV"),
        (["events.ndjson", "--dry-run", "--resume"], "a dry run reads whole files"),
        (["events.ndjson", "--dry-run", "--rejects", "other.csv"], "other.csv is there from an"),
        (["events.ndjson", "--rejects", "other.csv"], "other.csv is there from an"),
        (["events.ndjson", "--checkpoint", "other.csv"], "other.csv is no checkpoint"),
        (
            ["events.ndjson", "--checkpoint", "no/c"],
            "no/c: No such file or directory; name another",
        ),
        (["-", "--format", "csv", "--resume"], "-: --resume needs the --checkpoint of that import"),
        ([], "Missing argument 'FILE"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_begun_is_refused(app, redis, file, monkeypatch, args, text):
    monkeypatch.chdir(file.parent)
    contents = {"events.txt": b"", "events.csv": b"x", "other.ndjson": b"", "other.csv": b"mine"}
    for name, content in contents.items():
        file.with_name(name).write_bytes(content)
    before = sorted(file.parent.iterdir())
    said = run(app, "import", *args)
    assert said.exit_code == 2
    assert text in said.stderr
    assert redis.keys() == []
    assert sorted(file.parent.iterdir()) == before
    assert file.with_name("other.csv").read_bytes() == b"mine"


def test_a_broken_file_is_imported_as_far_as_it_goes(app, tmp_path):
    path = tmp_path / "events.ndjson.gz"
    whole = gzip.compress(b"".join(line(n) + b"\n" for n in range(30_000)))
    path.write_bytes(whole[:-20_000])
    said = run(app, "import", str(path))
    assert said.exit_code == 3
    assert said.stderr.startswith(f"Error: {path} cannot be read to its end (Compressed file")
    assert "with --resume" in said.stderr
    assert 0 < len(stored(app)) < 30_000
    path.write_bytes(whole)
    path.with_name("events.ndjson.gz.checkpoint").unlink()
    ok(app, "import", str(path))
    assert len({m["messageId"] for m in stored(app)}) == 30_000


# ---------------------------------------------------------------- resumed

DOOMED = """
import os, signal, sys
from pathlib import Path
from celery_segment.buffer import Buffer
from celery_segment.importing import File, Import, reading
from celery_segment.importing.checkpoint import Checkpoint
from celery_segment.importing.rejects import Rejects
from workerapp import app
from support import new_app

where, number, path = sys.argv[1:]
name, when = where.split()
owner, method = name.split(".")
owner, number = globals()[owner], int(number)
original, calls = getattr(owner, method), []

def doomed(*args, **kwargs):
    calls.append(None)
    if len(calls) == number and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = original(*args, **kwargs)
    if len(calls) == number:
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(owner, method, doomed)
reading.CHUNK_RECORDS = 10
Import(new_app(app.conf.changes), [path], resume=True).run()
"""


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize(
    ("where", "again"),
    [
        ("Rejects.write before", False),
        ("Rejects.write after", False),
        ("Buffer.append_part before", False),
        ("Buffer.append_part after", True),
        ("Checkpoint.save after", False),
        ("Path.replace before", True),
        ("File.settle after", False),
    ],
)
def test_killed_at_any_instruction_and_resumed(app, redis_server, file, where, again, number):
    env = environ(broker_url=redis_server.url)
    args = [sys.executable, "-c", DOOMED, where, str(number), str(file)]
    assert subprocess.run(args, env=env, check=False).returncode == -signal.SIGKILL
    said = run(app, "import", str(file), "--resume")
    assert said.stdout.endswith(f"imported 35 messages, rejected 5: see {file}.rejects\n")
    assert sorted(set(numbers(app))) == GOOD
    ids = Counter(m["messageId"] for m in stored(app))
    assert len(ids) == 35
    assert sum(ids.values()) in ({35, *range(43, 46)} if again else {35})
    assert [each["line"] for each in rejects_of(file.with_name("events.ndjson.rejects"))] == [
        *(8, 16, 24, 32, 40)
    ]
    assert not file.with_name("events.ndjson.checkpoint").exists()


@pytest.fixture
def interrupted(app, monkeypatch):
    """Run an import in small chunks that is sent a signal while it stores one of them."""

    def interrupted(*args, at, number=signal.SIGINT):
        def append_part(buffer, part):
            if next(calls) == at:
                os.kill(os.getpid(), number)
            return original(buffer, part)

        calls, original = itertools.count(1), Buffer.append_part
        with monkeypatch.context() as patch:
            patch.setattr(Buffer, "append_part", append_part)
            said = run(app, "import", *map(str, args))
        assert (said.exit_code, said.stderr.count("\n")) == (128 + number, 1)
        return said

    monkeypatch.setattr(reading, "CHUNK_RECORDS", 10)
    return interrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_import_says_how_to_go_on(app, file, interrupted, number):
    said = interrupted(file, at=3, number=number)
    assert said.stderr == (
        f"Error: interrupted. {file} is imported to line 20: the same command with --resume goes"
        " on there\n"
    )
    assert said.stdout == f"{file}: imported 18 messages, rejected 2: see {file}.rejects\n"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    said = run(app, "import", str(file))
    assert said.exit_code == 2
    assert said.stderr == (
        f"Error: {file}: {file}.checkpoint says that an import of it came to line 20: go on with"
        " --resume, or delete that file to begin again\n"
    )
    said = run(app, "import", str(file), "--resume")
    assert said.exit_code == 1
    assert said.stderr == f"{file}: goes on behind line 20\n"
    assert said.stdout.startswith(f"{file}: imported 35 messages, rejected 5")
    assert sorted(set(numbers(app))) == GOOD


def test_several_files_are_resumed_in_whatever_order(app, tmp_path, interrupted):
    a, b, c = (tmp_path / f"{name}.ndjson" for name in "abc")
    for n, path in enumerate((a, b, c)):
        path.write_bytes(b"\n".join([line(100 * n + i) for i in range(15)] + [b"bad"]))
    said = interrupted(a, b, c, at=4)
    assert said.stdout.splitlines()[1] == f"{b}: imported 10 messages"
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [name for name in names if "checkpoint" in name] == [
        "a.ndjson.checkpoint",
        "b.ndjson.checkpoint",
    ]
    said = run(app, "import", str(c), str(b), str(a), "--resume", "--json")
    figures = json.loads(said.stdout)
    assert {each["taken"] for each in figures.values()} == {15}
    assert {each["rejected"] for each in figures.values()} == {1}
    assert len({*numbers(app)}) == 45
    assert not list(tmp_path.glob("*checkpoint*"))


def test_resume_without_an_earlier_import_begins(app, file):
    assert run(app, "import", str(file), "--resume").exit_code == 1
    assert numbers(app) == GOOD


def test_the_standard_input_is_resumed_with_a_checkpoint(app, redis_server, file, tmp_path):
    env = environ(broker_url=redis_server.url)
    args = ["-A", "workerapp", "segment", "import", "-", "--format", "ndjson"]
    checkpoint = tmp_path / "position"
    args += ["--checkpoint", str(checkpoint)]
    data = file.read_bytes().splitlines(keepends=True)

    def given(lines, *more):
        return subprocess.Popen(
            command(*args, *more), env=env, cwd=tmp_path, stdin=subprocess.PIPE
        ), b"".join(lines)

    # Enough for a chunk, and then nothing: it waits for more.
    padding = [line(n) + b"\n" for n in range(1000, 1000 + reading.CHUNK_RECORDS)]
    first, head = given([*data, *padding])
    first.stdin.write(head)
    first.stdin.flush()
    wait_until(lambda: len(set(numbers(app))) > 9_000)
    wait_until(lambda: checkpoint.exists() and b'"line":10000' in checkpoint.read_bytes())
    first.send_signal(signal.SIGINT)
    first.communicate()
    assert first.returncode == 130
    second, head = given([*data, *padding, line(1)], "--resume")
    second.communicate(head)
    assert second.returncode == 1
    found = numbers(app)
    assert len(found) == 35 + reading.CHUNK_RECORDS + 1
    assert set(found) == {*GOOD, *range(1000, 1000 + reading.CHUNK_RECORDS)}
    assert not checkpoint.exists()


@pytest.mark.parametrize(
    ("change", "args", "text"),
    [
        (lambda data: data + b"\n", (), "whose size was "),
        (lambda data: data.replace(b"u1", b"u2"), (), "line 20 is not what it was, so it cannot"),
        (lambda data: data, ("--source", "marketing"), "whose source was 'default', not 'marke"),
        (lambda data: data, ("--type", "track"), "whose type was None, not 'track'"),
        (lambda data: data, ("--format", "csv"), "column "),
    ],
)
def test_another_import_is_not_resumed(app, file, interrupted, change, args, text):
    interrupted(file, at=3)
    before, rejects = stored(app), file.with_name("events.ndjson.rejects").read_bytes()
    file.write_bytes(change(file.read_bytes()))
    said = run(app, "import", str(file), "--resume", *args)
    assert said.exit_code == 2
    assert text in said.stderr
    assert stored(app) == before
    assert file.with_name("events.ndjson.rejects").read_bytes() == rejects
    assert stored(app, "marketing") == []


def test_what_is_no_checkpoint_is_left_alone(app, file):
    checkpoint = file.with_name("events.ndjson.checkpoint")
    for content in (b"mine", b"{}", b"\xff"):
        checkpoint.write_bytes(content)
        said = run(app, "import", str(file), "--resume")
        assert said.exit_code == 2
        assert said.stderr.startswith(f"Error: {checkpoint} is no checkpoint: ")
        assert checkpoint.read_bytes() == content


def test_two_imports_of_a_file_do_not_meet(app, file):
    with file.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        said = run(app, "import", str(file))
    assert said.exit_code == 2
    assert said.stderr == f"Error: {file}: another import of it is at work\n"
    late = Import(app, [str(file)])
    Import(app, [str(file)])
    file.with_name("events.ndjson.checkpoint").write_bytes(b"{}")
    with pytest.raises(ImportRefused):
        late.run()
    assert stored(app) == []


# ---------------------------------------------------------------- waited for


class Drainer:
    """Delivers what is stored, as workers do; keeps the messages."""

    def __init__(self, buffer):
        self._buffer = buffer
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._drain)
        self.delivered = []
        self.most_bytes = 0

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _drain(self):
        while not self._stop.wait(0.01):
            for batch in self._buffer.claim(1, whatever_waits=True):
                held = self._buffer.begin(batch.id, "token")
                figures = self._buffer.snapshot()
                self.most_bytes = max(
                    self.most_bytes,
                    figures.buffered_bytes + figures.ready_bytes + figures.inflight_bytes,
                )
                self.delivered += json.loads(b"[%b]" % held.body[:-1])
                self._buffer.ack(held)


def test_a_full_buffer_is_waited_for(make_app, tmp_path):
    app = make_app(segment_max_buffer_bytes=200_000, segment_on_full="drop")
    path = tmp_path / "events.ndjson"
    write(path, 400, padding=3_000)
    with Drainer(buffer_of(app)) as drainer:
        said = run(app, "import", str(path))
        assert said.stdout.startswith(f"{path}: imported 350 messages, rejected 50")
        assert said.stderr == (
            "waits: the buffer of source 'default' has reached segment_max_buffer_bytes (200,000):"
            " let the workers drain it, or raise it\n"
        )
        wait_until(lambda: len(drainer.delivered) >= 350)
    assert len({m["messageId"] for m in drainer.delivered}) == len(drainer.delivered) == 350
    assert 100_000 < drainer.most_bytes <= 200_000
    assert Analytics(app=app).stats().dropped_full == 0


def test_a_buffer_that_stays_full_ends_it_and_it_goes_on(make_app, tmp_path):
    app = make_app(segment_max_buffer_bytes=100_000)
    path = tmp_path / "events.ndjson"
    write(path, 400, padding=3_000)
    said = run(app, "import", str(path), "--timeout", "0.2")
    assert said.exit_code == 3
    last = said.stderr.splitlines()[-1]
    assert last.startswith("Error: the buffer of source 'default' has reached segment_max_buffer_")
    assert last.endswith("is imported to line 0: the same command with --resume goes on there")
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
    assert first.startswith("waits: Redis at 127.0.0.1:1 is out of reach (")
    assert last.startswith("Error: Redis at 127.0.0.1:1 is out of reach (")
    assert "passw0rd" not in said.stderr


# ---------------------------------------------------------------- real processes


def test_a_terminal_shows_a_bar_and_what_is_waited_for(make_app, redis_server, tmp_path):
    app = make_app(segment_max_buffer_bytes=100_000)
    path = tmp_path / "events.ndjson"
    write(path, 100, padding=3_000)
    args = ["-A", "workerapp", "segment", "import", path.name]
    env = environ(broker_url=redis_server.url, segment_max_buffer_bytes=100_000)
    with Terminal(args, env, tmp_path) as terminal:
        terminal.read("waits: the buffer of source")
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
        terminal.read("waits: ")
        terminal.process.send_signal(signal.SIGINT)
        shown = terminal.read()
        assert terminal.process.wait() == 130
    assert "Error: interrupted. events.ndjson is imported to line 0: the same command" in shown
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
