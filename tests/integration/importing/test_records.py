"""What `celery segment import` takes, rejects and refuses."""

from __future__ import annotations

import gzip
import json
import stat
import subprocess
from collections import Counter

import pytest

from commands import command, environ, failed, ok, run
from imports import GOOD, SOURCES, WHEN, line, numbers, rejects_of, stored
from support import buffer_of

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
    assert redis.llen("celery") == 0, "workers notice what waits by themselves"
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
    (batch,) = buffer.claim(1)
    buffer.bury(buffer.begin(batch.id, "token"), "400", answered=True)
    exported = tmp_path / "exported.ndjson"
    ok(app, "dead", "export", str(exported), "--purge")
    assert ok(app, "import", str(exported)) == f"{exported}: imported 2 messages\n"
    assert [m["messageId"] for m in stored(app)] == ["m1", "m2"]


# ---------------------------------------------------------------- what is rejected


def test_rejected_lines_are_kept_and_reported(app, file):
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


def test_fixed_lines_are_imported(app, file):
    assert run(app, "import", str(file)).exit_code == 1
    rejects = file.with_name("events.ndjson.rejects")
    said = run(app, "import", str(file))
    assert said.exit_code == 2
    assert said.stderr.startswith(f"Error: {rejects} exists from an earlier import: move it")
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
        (["-"], "-: the format cannot be inferred from the name: give --format"),
        (["events.txt"], "events.txt: the format cannot be inferred from the name"),
        (["events.csv"], "events.csv: column 'x' is not a field of a message"),
        (["events.ndjson", "events.csv"], "events.csv: column 'x' is not a field of a message"),
        (["events.ndjson", "--format", "xml"], "'xml' is not one of 'ndjson', 'csv'"),
        (["events.ndjson", "--type", "buy"], "'buy' is not one of"),
        (["events.ndjson", "--source", "sales"], "source 'sales' is not configured"),
        (["events.ndjson", "--source", "off"], "source 'off' is not enabled"),
        (["events.ndjson", "other.ndjson", "--rejects", "r"], "are for a single file"),
        (["events.ndjson", "other.ndjson", "--checkpoint", "c"], "are for a single file"),
        (["events.ndjson", "--text", "properties.n"], "--text is only for CSV"),
        (["events.ndjson", "--dry-run", "--resume"], "a dry run reads whole files"),
        (["events.ndjson", "--dry-run", "--rejects", "other.csv"], "other.csv exists from an"),
        (["events.ndjson", "--rejects", "other.csv"], "other.csv exists from an"),
        (["events.ndjson", "--checkpoint", "other.csv"], "other.csv is not a checkpoint"),
        (
            ["events.ndjson", "--checkpoint", "no/c"],
            "no/c: No such file or directory: give another",
        ),
        (
            ["-", "--format", "csv", "--resume"],
            "-: there is no checkpoint to resume from: give the --checkpoint",
        ),
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
