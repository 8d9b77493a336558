"""Dead letters as their operator's programs see them, on a real Redis."""

from __future__ import annotations

import io
import json
import os
import signal
import stat
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import msgspec
import pytest

from celery_segment import Analytics, track
from celery_segment.errors import BufferUnavailable
from celery_segment.operations import dead_letters, dead_pages
from support import allow, buffer_of, forked, new_app, wait_until

REASONS = ("400 Bad Request: event", "422 Unprocessable", "503 Service Unavailable; given up")


@pytest.fixture
def app(make_app):
    return make_app(
        segment_max_batch_messages=1, segment_max_inflight=1_000, segment_max_dead_bytes=10**12
    )


@pytest.fixture
def letters(app):
    return Analytics(app=app).dead_letters


@pytest.fixture
def buffer(app):
    return buffer_of(app)


def bury(buffer, number, reason="400 Bad Request"):
    """Store so many messages, each a batch that was given up; return their ids as listed."""
    buried = set()
    with Analytics().batch():
        for n in range(number):
            track.delay("u", f"E{n}")
    while batches := buffer.claim(1_000):
        for batch in batches:
            buffer.bury(buffer.begin(batch.id, "token"), reason, answered=True)
            buried.add(batch.id)
    return [letter.id for letter in buffer.admin.dead_letters(limit=100_000) if letter.id in buried]


def buried_at(redis, batch, seconds):
    """Give a dead letter another time."""
    redis.zadd("{segment:default}:dead", {batch: seconds * 1000})
    redis.hset(f"{{segment:default}}:meta:{batch}", "buried", seconds * 1000)


def ids(chosen):
    return [letter.id for letter in chosen]


def lines(data):
    assert data.endswith(b"\n") == (data != b"")
    return [json.loads(line) for line in data.splitlines()]


# ---------------------------------------------------------------- choosing


def test_they_are_chosen_by_reason_in_whatever_case(letters, buffer):
    a, b, c = (bury(buffer, 2, reason) for reason in REASONS)
    assert ids(letters) == ids(letters.select()) == [*a, *b, *c]
    assert ids(letters.select(reason="bad request")) == a
    assert ids(letters.select(reason="UNP")) == b
    assert ids(letters.select(reason="422 unprocessable")) == b
    assert ids(letters.select(reason="4.*")) == []


@pytest.mark.usefixtures("app")
def test_they_are_chosen_by_time(letters, buffer, redis):
    batches = bury(buffer, 4)
    for hour, batch in enumerate(batches):
        buried_at(redis, batch, 1_750_000_000 + 3_600 * hour)
    moments = [datetime.fromtimestamp(letter.buried, timezone.utc) for letter in letters]
    assert ids(letters.select(since=moments[1])) == batches[1:]
    assert ids(letters.select(until=moments[1])) == batches[:1]
    assert ids(letters.select(since=moments[1], until=moments[3])) == batches[1:3]
    assert ids(letters.select(since=moments[1].timestamp(), reason="400")) == batches[1:]
    # The time of the place where a time names none.
    naive = moments[2].astimezone().replace(tzinfo=None)
    assert ids(letters.select(since=naive)) == batches[2:]
    assert ids(letters.select(since=moments[3] + timedelta(milliseconds=1))) == []


def test_those_that_stay_are_given_once_whatever_happens_meanwhile(letters, buffer, monkeypatch):
    monkeypatch.setattr(dead_pages, "PAGE", 3)
    batches = bury(buffer, 30)
    stay = batches[1::3]
    seen = []
    for letter in letters:
        seen.append(letter.id)
        at = batches.index(letter.id)
        # The one before, this one and one to come are settled; all else stays.
        for other in (at - 1, at, at + 1):
            if 0 <= other < len(batches) and batches[other] not in stay:
                (letters.purge if other % 2 else letters.replay)([batches[other]])
    assert [batch for batch in seen if batch in stay] == stay
    assert len(seen) == len(set(seen))


def test_a_loop_that_replays_into_a_failing_endpoint_ends(letters, buffer):
    batches = bury(buffer, 5)
    seen = []
    for letter in letters:
        seen.append(letter.id)
        assert len(seen) < 10
        letters.replay([letter.id])
        (batch,) = buffer.claim(1)
        buffer.bury(buffer.begin(batch.id, "again"), "400", answered=True)
    assert seen == batches
    assert letters.replay([]) == letters.purge([]) == 0
    with pytest.raises(TypeError):
        letters.purge("1")
    assert letters.replay() == 5


# ---------------------------------------------------------------- settling


@pytest.mark.parametrize("what", ["replay", "purge"])
def test_the_chosen_are_settled_and_no_other(letters, buffer, redis, what):
    a, b, c = (bury(buffer, 150, reason) for reason in REASONS)
    buried_at(redis, b[0], 1_000)
    settle = getattr(letters, what)
    assert settle(reason="nowhere") == 0
    assert settle(until=2_000.0) == 1
    assert settle(reason="422") == 149
    assert ids(letters) == [*a, *c]
    with pytest.raises(ValueError, match="not both"):
        settle([a[0]], reason="400")
    assert settle([a[0], a[1], "nonsense"]) == 2
    assert settle() == 298
    stats = buffer.admin.snapshot()
    assert (stats.accepted, stats.dead.messages) == (450, 0)
    assert (stats.ready.messages, stats.purged)[what == "purge"] == 450


def child(app, settle):
    """Start a process that settles dead letters one by one, as told."""

    def run():
        dead_letters.SETTLED = 1
        settle(Analytics(app=new_app(app.conf.changes)).dead_letters)

    return forked(run)


def kill(process):
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, "it was done before it was killed"


def test_a_replay_that_is_cut_off_and_repeated_loses_and_doubles_nothing(
    app, letters, buffer, redis
):
    batches = bury(buffer, 4_000)
    events = {message["messageId"] for batch in batches for message in letters.messages(batch)}
    assert len(events) == 4_000
    left = 4_000
    for _ in range(3):
        process = child(app, lambda letters: letters.replay())
        wait_until(lambda before=left: redis.zcard("{segment:default}:dead") < before - 100)
        kill(process)
        stats = buffer.admin.snapshot()
        assert 0 < stats.dead.messages < left
        assert stats.dead.messages + stats.ready.messages == stats.accepted == 4_000
        left = stats.dead.messages
    assert letters.replay() == left
    received = []
    while claimed := buffer.claim(1_000):
        for batch in claimed:
            held = buffer.begin(batch.id, "token")
            received += [m["messageId"] for m in msgspec.json.decode(b"[%b]" % held.body[:-1])]
            buffer.ack(held)
    assert len(received) == 4_000
    assert set(received) == events
    assert buffer.admin.snapshot().delivered.messages == 4_000


# ---------------------------------------------------------------- exporting


def test_an_export_has_a_line_for_each_message_with_its_very_bytes(letters, app, tmp_path):
    app.conf.segment_max_batch_messages = 10
    exact = Decimal("0.12345678901234567890123")
    spread = msgspec.Raw(b'{\n\t"deep": [1,\r\n2]\n}')
    track.delay("ü", "E\x1b\u2028", {"exact": exact, "large": 10**30, "spread": spread})
    (batch,) = buffer_of(app).claim(1)
    held = buffer_of(app).begin(batch.id, "token")
    buffer_of(app).bury(held, 'because "so"\n', answered=True)
    (letter,) = letters
    target = tmp_path / "dead.ndjson"
    assert letters.export(target) == (1, 0)
    data = target.read_bytes()
    (line,) = lines(data)
    assert data.count(b"\n") == 1
    sent = held.body[:-1].replace(b"\n", b" ").replace(b"\r", b" ")
    assert data.endswith(b',"message":%b}\n' % sent)
    assert b'"exact":0.12345678901234567890123,' in data
    assert line["message"] == json.loads(held.body[:-1])
    assert list(line) == ["batch", "buried", "reason", "message"]
    assert (line["batch"], line["buried"]) == (letter.id, letter.buried)
    assert line["reason"] == 'because "so"'
    assert len(letters.raw(letter.id)) == 1
    stream = io.BytesIO()
    assert letters.export(stream) == (1, 0)
    assert stream.getvalue() == data


def test_an_export_is_chosen_and_ordered(letters, buffer, redis, tmp_path):
    a, b, c = (bury(buffer, 120, reason) for reason in REASONS)
    buried_at(redis, c[0], 1_000)
    stream = io.BytesIO()
    assert letters.export(stream, reason="40") == (120, 0)
    assert [line["batch"] for line in lines(stream.getvalue())] == a
    assert letters.export(tmp_path / "all").messages == 360
    found = lines((tmp_path / "all").read_bytes())
    assert [line["batch"] for line in found] == [c[0], *a, *b, *c[1:]]
    assert letters.export(tmp_path / "none", until=5.0) == (0, 0)
    assert (tmp_path / "none").read_bytes() == b""


def test_a_file_is_not_replaced_unless_that_is_asked_for(letters, buffer, tmp_path):
    bury(buffer, 2)
    target = tmp_path / "dead.ndjson"
    target.write_text("precious")
    with pytest.raises(FileExistsError, match=r"dead\.ndjson exists already"):
        letters.export(target, purge=True)
    assert target.read_text() == "precious"
    (tmp_path / "link").symlink_to(target)
    assert letters.export(tmp_path / "link", overwrite=True) == (2, 0)
    assert len(lines(target.read_bytes())) == 2
    assert (tmp_path / "link").is_symlink()
    for odd in (tmp_path, "/dev/null"):
        with pytest.raises(FileExistsError, match="not a plain file"):
            letters.export(odd, overwrite=True)
    assert buffer.admin.snapshot().dead.messages == 2
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_a_file_that_comes_meanwhile_is_not_replaced(letters, buffer, tmp_path, monkeypatch):
    bury(buffer, 2)
    target = tmp_path / "dead.ndjson"
    raw = letters.raw
    monkeypatch.setattr(letters, "raw", lambda batch: target.write_text("precious") and raw(batch))
    with pytest.raises(FileExistsError):
        letters.export(target, purge=True)
    assert target.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [target]
    assert buffer.admin.snapshot().dead.messages == 2


def test_a_purge_takes_what_was_exported_and_no_more(letters, buffer, tmp_path, monkeypatch):
    a, b, _ = (bury(buffer, 120, reason) for reason in REASONS)
    write = letters._write

    def later(*args):
        count = write(*args)
        bury(buffer, 3, REASONS[0])
        letters.replay([a[5]])
        return count

    monkeypatch.setattr(letters, "_write", later)
    assert letters.export(tmp_path / "a", reason="400", purge=True) == (120, 119)
    assert [line["batch"] for line in lines((tmp_path / "a").read_bytes())] == a
    assert len(ids(letters.select(reason="400"))) == 3
    assert ids(letters.select(reason="422")) == b
    assert (buffer.admin.snapshot().purged, buffer.admin.snapshot().ready.messages) == (119, 1)


def test_one_that_is_settled_while_it_is_exported_is_neither_written_nor_purged(
    letters, buffer, tmp_path, monkeypatch
):
    first, second, third = bury(buffer, 3)
    raw = letters.raw

    def settled_meanwhile(batch):
        if batch == second:
            letters.replay([second])
            contents = raw(batch)
            (again,) = buffer.claim(1)
            buffer.bury(buffer.begin(again.id, "token"), "new", answered=True)
            return contents
        return raw(batch)

    monkeypatch.setattr(letters, "raw", settled_meanwhile)
    assert letters.export(tmp_path / "a", purge=True) == (2, 2)
    found = [line["batch"] for line in lines((tmp_path / "a").read_bytes())]
    assert found == [first, third]
    assert ids(letters) == [second]


@pytest.mark.parametrize("error", [OSError("disk full"), BufferUnavailable("away")])
def test_an_export_that_fails_leaves_no_file_and_every_letter(
    letters, buffer, tmp_path, monkeypatch, error
):
    batches = bury(buffer, 5)
    raw = letters.raw

    def failing(batch):
        if batch == batches[3]:
            raise error
        return raw(batch)

    monkeypatch.setattr(letters, "raw", failing)
    with pytest.raises(type(error)):
        letters.export(tmp_path / "a", purge=True)
    assert list(tmp_path.iterdir()) == []
    assert ids(letters) == batches


def test_nothing_is_purged_before_the_disk_has_the_file(letters, buffer, tmp_path, monkeypatch):
    batches = bury(buffer, 3)
    synced = []
    fsync = os.fsync

    def watched(number):
        fsync(number)
        assert ids(letters) == batches
        synced.append((stat.S_ISDIR(os.fstat(number).st_mode), os.fstat(number).st_size))

    monkeypatch.setattr(os, "fsync", watched)
    assert letters.export(tmp_path / "a", purge=True) == (3, 3)
    (file, size), (folder, _) = synced
    assert (file, folder) == (False, True)
    assert size == (tmp_path / "a").stat().st_size


def test_what_goes_to_a_stream_is_not_purged(letters, buffer):
    bury(buffer, 1)
    with pytest.raises(ValueError, match="purge needs a path"):
        letters.export(io.BytesIO(), purge=True)
    assert buffer.admin.snapshot().dead.messages == 1


def test_an_export_that_is_killed_and_repeated_loses_nothing(app, letters, buffer, redis, tmp_path):
    batches = bury(buffer, 3_000)
    target = tmp_path / "dead.ndjson"

    def export(letters):
        letters.export(target, purge=True)

    killed = child(app, export)
    wait_until(lambda: any(part.stat().st_size > 4_096 for part in tmp_path.iterdir()))
    kill(killed)
    assert not target.exists(), "half a file"
    assert ids(letters) == batches
    # And while it purges: the file is complete then.
    killed = child(app, export)
    wait_until(lambda: redis.zcard("{segment:default}:dead") < 3_000)
    kill(killed)
    left = ids(letters)
    assert 0 < len(left) < 3_000
    assert [line["batch"] for line in lines(target.read_bytes())] == batches
    assert letters.export(tmp_path / "rest", purge=True) == (len(left), len(left))
    assert [line["batch"] for line in lines((tmp_path / "rest").read_bytes())] == left
    assert buffer.admin.snapshot().purged == 3_000


def test_a_full_redis_still_lists_exports_replays_and_purges(letters, buffer, redis, tmp_path):
    a, b, c = (bury(buffer, 5, reason) for reason in REASONS)
    redis.config_set("maxmemory", 1)
    redis.script_flush()
    try:
        assert ids(letters.select(reason="400")) == a
        assert letters.export(tmp_path / "a", reason="400", purge=True) == (5, 5)
        redis.script_flush()
        assert letters.purge(b) == 5
        redis.script_flush()
        assert letters.replay() == 5
        assert ids(letters) == []
    finally:
        redis.config_set("maxmemory", 0)
    assert len(lines((tmp_path / "a").read_bytes())) == 5
    allow(buffer, 9)
    assert {batch.id for batch in buffer.claim(9)} == set(c)
