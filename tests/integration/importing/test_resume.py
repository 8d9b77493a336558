"""An import that was killed or interrupted is resumed."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from celery_segment.buffer.appends import Appends
from celery_segment.errors import ImportRefused
from celery_segment.importing import File, Import, reading
from celery_segment.importing.checkpoint import Checkpoint
from celery_segment.importing.rejects import Rejects
from commands import command, environ, run
from imports import GOOD, line, numbers, rejects_of, stored
from support import buffer_of, killed_in_child, new_app, wait_until


def run_doomed(app, path, where, number):
    """Import in small chunks; be killed before or after the call of that number of a method."""
    name, when = where.split()
    owner, method = name.split(".")
    owners = {each.__name__: each for each in (Appends, Checkpoint, File, Path, Rejects)}
    original, calls = getattr(owners[owner], method), []

    def doomed(*args, **kwargs):
        calls.append(None)
        if len(calls) == number and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owners[owner], method, doomed)
    reading.CHUNK_RECORDS = 10
    Import(new_app(app.conf.changes), [str(path)], resume=True).run()


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize(
    ("where", "again"),
    [
        ("Rejects.write before", False),
        ("Rejects.write after", False),
        ("Appends.append_part before", False),
        ("Appends.append_part after", True),
        ("Checkpoint.save after", False),
        ("Path.replace before", True),
        ("File.settle after", False),
    ],
)
def test_killed_at_any_instruction_and_resumed(app, file, where, again, number):
    killed_in_child(lambda: run_doomed(app, file, where, number))
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
        def append_part(part, attachments):
            if next(calls) == at:
                os.kill(os.getpid(), number)
            return original(part, attachments)

        buffer = buffer_of(app)
        calls, original = itertools.count(1), buffer.append_part
        with monkeypatch.context() as patch:
            patch.setattr(buffer, "append_part", append_part)
            said = run(app, "import", *map(str, args))
        assert (said.exit_code, said.stderr.count("\n")) == (128 + number, 1)
        return said

    monkeypatch.setattr(reading, "CHUNK_RECORDS", 10)
    return interrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_import_says_how_to_go_on(app, file, interrupted, number):
    said = interrupted(file, at=3, number=number)
    assert said.stderr == (
        f"Error: interrupted. {file} is imported up to line 20: repeat the command with"
        " --resume to continue\n"
    )
    assert said.stdout == f"{file}: imported 18 messages, rejected 2: see {file}.rejects\n"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    said = run(app, "import", str(file))
    assert said.exit_code == 2
    assert said.stderr == (
        f"Error: {file}: an earlier import ended at line 20: continue it with --resume, or delete"
        f" {file}.checkpoint to start over\n"
    )
    said = run(app, "import", str(file), "--resume")
    assert said.exit_code == 1
    assert said.stderr == f"{file}: continues after line 20\n"
    assert said.stdout.startswith(f"{file}: imported 35 messages, rejected 5")
    assert sorted(set(numbers(app))) == GOOD


def test_several_files_are_resumed_in_any_order(app, tmp_path, interrupted):
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
        (lambda data: data + b"\n", (), "the size of the earlier import was "),
        (lambda data: data.replace(b"u1", b"u2"), (), "line 20 has changed, so it cannot"),
        (
            lambda data: data,
            ("--source", "marketing"),
            "the source of the earlier import was 'default', not 'marke",
        ),
        (
            lambda data: data,
            ("--type", "track"),
            "the type of the earlier import was None, not 'track'",
        ),
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
        assert said.stderr.startswith(f"Error: {checkpoint} is not a checkpoint: ")
        assert checkpoint.read_bytes() == content


def test_two_imports_of_a_file_do_not_meet(app, file):
    with file.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        said = run(app, "import", str(file))
    assert said.exit_code == 2
    assert said.stderr == f"Error: {file}: another import of this file is running\n"
    late = Import(app, [str(file)])
    Import(app, [str(file)])
    file.with_name("events.ndjson.checkpoint").write_bytes(b"{}")
    with pytest.raises(ImportRefused):
        late.run()
    assert stored(app) == []
