"""The spill file where something is wrong: a full disk, a broken file, a fork, no answer."""

from __future__ import annotations

import json
import logging
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing, contextmanager, suppress

import pytest

from celery_segment import Analytics, BufferFull, BufferUnavailable, track
from celery_segment.buffer import messages_of
from celery_segment.buffer.rights import allow
from celery_segment.buffer.scripts import script
from celery_segment.producer.spill import Spill
from celery_segment.producer.spill_file import _close
from celery_segment.runtime import runtime_of
from celery_segment.testing import EmbeddedRedis
from celery_segment.worker.bootsteps import _give_back as give_back_in_tick
from support import buffer_of, drops, wait_until


@pytest.fixture
def own():
    """A Redis that the test may kill or freeze."""
    with EmbeddedRedis(config={"appendfsync": "always"}) as redis:
        yield redis


@pytest.fixture
def path(tmp_path):
    return tmp_path / "spill"


@pytest.fixture
def spilling(make_app, own, path):
    """Make an application that spills."""

    def make(**conf):
        return make_app(
            segment_redis_url=own.url,
            segment_on_unavailable="spill",
            segment_spill_path=str(path),
            **conf,
        )

    return make


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 3 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["/bin/mount", "-t", "tmpfs", "-o", "size=3m", "none", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no right to mount a disk")
    yield folder
    subprocess.run(["/bin/umount", "-l", str(folder)], check=True)


@contextmanager
def no_room_on(folder):
    """Fill a disk to its last byte."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as stream:
        with suppress(OSError):
            while stream.write(b"x" * 512):
                pass
        yield
    filler.unlink()


@contextmanager
def leaving():
    """End a child after a block, whatever happens in it."""
    try:
        yield
        os._exit(0)
    except BaseException as error:  # noqa: BLE001 - it must not reach the parent's tests
        os.write(2, repr(error).encode())
    finally:
        os._exit(1)


def fallback_of(app):
    return runtime_of(app).producer("default")._store


def rested(app):
    store = fallback_of(app)
    wait_until(
        lambda: max(store._rests_until, store._file_rests_until) < time.monotonic(),
    )


def answers(app):
    with suppress(BufferUnavailable):
        return buffer_of(app).admin.snapshot()


def may_append(app):
    """Have the user's rights be known, so that a call sends nothing but its message."""
    pool, append = buffer_of(app)._server, script("append")
    allow(pool, pool._connections.allowed, append, append.encode_command("{segment:default}"))


def ids_in(redis):
    content = redis.client().get("{segment:default}:open") or b""
    return [json.loads(bytes(message))["messageId"] for message in messages_of(content)]


def numbers(count, size=10):
    return [b"%0*d" % (size, n) for n in range(count)]


class TestFullDisk:
    def test_nothing_is_appended_that_cannot_be_deleted(self, small_disk):
        spill = Spill(str(small_disk / "spill"), 10**8)
        messages = numbers(1000, 500)
        spill.put("s", messages, {})
        taken = []

        def append(part, _):
            taken.extend(part)

        with no_room_on(small_disk):
            for _ in range(5):
                for each in (spill, Spill(spill.path, 10**8)):
                    with suppress(BufferUnavailable):
                        each.give_back("s", append)
        while spill.give_back("s", append):
            pass
        assert taken == messages
        assert spill.waiting("s") == 0

    def test_a_disk_that_the_file_itself_filled(self, small_disk):
        spill = Spill(str(small_disk / "spill"), 10**8)
        stored, taken = 0, []
        with pytest.raises(BufferFull, match="or its disk"):
            while True:
                spill.put("s", [b"%0500d" % stored], {})
                stored += 1
        assert stored > 100
        for _ in range(stored):
            for each in (spill, Spill(spill.path, 10**8)):
                each.give_back("s", lambda part, _: taken.extend(part))
            if len(taken) >= stored:
                break
        assert taken == numbers(stored, 500)
        assert Spill(spill.path, 10**8).give_back("s", lambda part, _: taken.extend(part)) <= 0
        assert len(taken) == stored
        assert spill.waiting("s") == 0

    @pytest.mark.parametrize("size", [500, 30_000])
    def test_a_disk_with_some_room_again_is_used_again(self, small_disk, size):
        spill = Spill(str(small_disk / "spill"), 10**8)
        with pytest.raises(BufferFull):
            while True:
                spill.put("s", numbers(4, size), {})
        with no_room_on(small_disk), suppress(BufferUnavailable):
            while spill.give_back("s", lambda *_: None) > 0:
                pass
        for _ in range(3):
            while spill.give_back("s", lambda *_: None):
                pass
            assert spill.waiting("s") == 0
            spill.put("s", numbers(4, size), {})

    def test_calls_on_a_full_disk(self, make_app, own, small_disk):
        """Count in Redis what is spilled before, and given back while, the disk is full."""
        app = make_app(
            segment_redis_url=own.url,
            segment_on_unavailable="spill",
            segment_spill_path=str(small_disk / "spill"),
        )
        own.kill()
        ids = [track.delay("u", f"E{n}").id for n in range(188)]
        with no_room_on(small_disk):
            own.restart()
            rested(app)
            for _ in range(20):
                ids.append(track.delay("u", "after").id)
                rested(app)
        # The disk has room again: the process deletes what it could not delete.
        spill = Spill(str(small_disk / "spill"), 10**8)
        while spill.waiting("default"):
            ids.append(track.delay("u", "later").id)
            rested(app)
        assert sorted(ids_in(own)) == sorted(ids)

    def test_another_file_of_that_name(self, path):
        """Give back from a file whose ids begin anew, beside the note of the one before."""
        for _ in range(2):
            spill = Spill(str(path), 10**8)
            spill.put("s", numbers(10), {})
            taken = []
            assert spill.give_back("s", lambda part, _, taken=taken: taken.extend(part)) == 10
            assert taken == numbers(10)
            spill._file._connection.close()
            for suffix in ("", "-wal", "-shm"):
                path.with_name(f"spill{suffix}").unlink(missing_ok=True)

    def test_a_part_whose_deletion_fails_is_appended_once(self, small_disk):
        spill = Spill(str(small_disk / "spill"), 10**8)
        messages = numbers(1000, 500)
        spill.put("s", messages, {})
        taken = []
        disk = None

        def append(part, _):
            nonlocal disk
            taken.extend(part)
            if disk is None:  # full from now on
                disk = no_room_on(small_disk)
                disk.__enter__()

        for _ in range(5):
            for each in (spill, Spill(spill.path, 10**8)):  # as another process does
                with suppress(BufferUnavailable):
                    each.give_back("s", append)
        disk.__exit__(None, None, None)
        while spill.give_back("s", append):
            pass
        assert taken == messages

    def test_no_byte_can_be_written_after_an_append(self, path):
        """Have every write of a process fail (EFBIG) from the first append on."""
        spill = Spill(str(path), 10**8)
        spill.put("s", numbers(300, 1000), {})
        spill.put("s", numbers(300, 1000), {})
        script = """
import resource, signal, sys
from celery_segment.errors import BufferUnavailable
from celery_segment.producer.spill import Spill
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
spill, count, limit = Spill(sys.argv[1], 10**8), 0, 0
def append(part, _):
    global count
    count += len(part)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
failures = 0
for _ in range(5):
    try:
        spill.give_back("s", append)
    except BufferUnavailable:
        failures += 1
first, limit = count, resource.RLIM_INFINITY
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
while spill.give_back("s", append):
    pass
print(first, failures, count)
"""
        done = subprocess.run(
            [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        first, failures, count = map(int, done.stdout.split())
        assert failures == 5
        assert first < 500  # one part, however often it was tried
        assert count == 600

    def test_a_killed_process_costs_one_part(self, path):
        spill = Spill(str(path), 10**8)
        messages = numbers(2000)
        spill.put("s", messages, {})
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            parts = []

            def append(part, _):
                os.write(write, b"%d\n" % len(part))
                parts.append(part)
                if len(parts) == 3:
                    os.kill(os.getpid(), signal.SIGKILL)

            with leaving():
                while spill.give_back("s", append, 100):
                    pass
        os.waitpid(child, 0)
        os.close(write)
        with os.fdopen(read) as stream:
            stored = sum(map(int, stream))
        taken = []
        while spill.give_back("s", lambda part, _: taken.extend(part), 100):
            pass
        assert stored == 300
        assert taken == messages[200:]

    def test_parts_are_as_small_as_the_room(self, path):
        spill = Spill(str(path), 10**8)
        messages = numbers(1200)
        spill.put("s", messages, {})
        taken = []

        def append(part, _):
            if len(part) > 7:
                raise BufferFull("no room")
            taken.extend(part)

        while spill.give_back("s", append):
            pass
        assert taken == messages
        spill.put("s", messages, {})

        def refuse(*_):
            raise BufferFull("no room")

        with pytest.raises(BufferFull):
            spill.give_back("s", refuse)
        assert spill.waiting("s") == 1200

    def test_a_part_is_one_append(self, path):
        spill = Spill(str(path), 10**8)
        spill.put("s", numbers(100, 30_000), {})
        sizes = []
        while spill.give_back("s", lambda part, _: sizes.append(sum(map(len, part)))):
            pass
        assert sum(sizes) == 100 * 30_000
        assert max(sizes) <= 480_000


def corrupt(path):
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 8000)


def not_a_database(path):
    path.write_text("a shopping list\n" * 100)


def another_users(path):
    if os.geteuid():
        pytest.skip("only root may give a file away")
    path.touch()
    os.chown(path, 4321, 4321)


def link(path):
    target = path.with_name("target")
    target.touch()
    path.symlink_to(target)


def hard_link(path):
    target = path.with_name("target")
    target.touch()
    path.hardlink_to(target)


class TestBrokenFile:
    @pytest.mark.parametrize("broken", [corrupt, not_a_database, another_users, link, os.mkdir])
    def test_no_call_fails_that_redis_stored(self, spilling, own, path, caplog, broken):
        broken(path)
        app = spilling()
        for number in range(5):
            track.delay("u", f"E{number}")
        assert Analytics(app=app).stats().accepted == 5
        assert caplog.text.count("spilled messages are not moved") == 1
        assert str(path) in caplog.text
        own.kill()
        with pytest.raises(BufferUnavailable) as raised:
            track.delay("u", "E")
        assert f"{path} cannot be written (" in str(raised.value)

    def test_what_one_source_left_holds_up_no_other(self, spilling, own, path, caplog):
        app = spilling(segment_sources={"b": {"write_key": "k2"}})
        own.kill()
        for source in ("default", "b"):
            Analytics(source).track.delay("u", "E")
        own.start()
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE spilled SET message = 5 WHERE source = 'default'")
        give_back_in_tick(runtime_of(app))
        assert Analytics("b").stats().accepted == 1
        assert "default: what was spilled cannot be read" in caplog.text

    def test_what_cannot_be_stored_leaves_it_usable(self, path):
        spill = Spill(str(path), 10**8)
        with pytest.raises(BufferUnavailable, match="cannot be written"):
            spill.put("s", [b"1", [2]], {})
        spill.put("s", [b"2"], {})
        assert spill.waiting("s") == 1

    @pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-given"])
    @pytest.mark.parametrize(
        ("strange", "reason"),
        [
            (link, "is a symbolic link"),
            (hard_link, "is a hard link"),
            (os.mkfifo, "is not a plain file"),
            (another_users, "belongs to user 4321"),
        ],
    )
    def test_no_file_is_taken_for_its_own(self, path, strange, reason, suffix):
        """Whoever may write to the folder puts something there before the first message."""
        name = path.with_name(f"spill{suffix}")
        strange(name)
        for _ in range(2):
            with pytest.raises(BufferUnavailable, match=reason):
                Spill(str(path), 10**7).put("s", [b"m"], {})
        for other in {name, path.with_name("target")} & set(path.parent.iterdir()):
            found = other.stat()
            assert (found.st_size, stat.S_IMODE(found.st_mode)) == (0, 0o644)

    def test_files_that_others_could_read_are_its_owners_from_now_on(self, path):
        for suffix in ("", "-wal", "-shm", "-given"):
            path.with_name(f"spill{suffix}").touch()
            path.with_name(f"spill{suffix}").chmod(0o666)
        Spill(str(path), 10**7).put("s", [b"m"], {})
        modes = {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
        assert modes == {0o600}

    def test_every_file_is_its_owners(self, path):
        before = os.umask(0)
        try:
            spill = Spill(str(path), 10**7)
            spill.put("s", [b"m"], {})
            spill.give_back("s", lambda *_: None)
        finally:
            os.umask(before)
        modes = {each.name: oct(each.stat().st_mode)[-3:] for each in path.parent.iterdir()}
        names = ("spill", "spill-wal", "spill-shm", "spill-given")
        assert modes == dict.fromkeys(names, "600")

    @pytest.mark.usefixtures("own")
    def test_a_locked_file_costs_no_more_than_the_timeout(self, spilling, own, path):
        app = spilling(segment_redis_timeout=0.4)
        own.kill()
        track.delay("u", "spilled")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(BufferUnavailable):  # Redis is resting: the file alone is asked
            track.delay("u", "first")
        started = time.monotonic()
        with pytest.raises(BufferUnavailable, match="locked"):
            track.delay("u", "E")
        assert time.monotonic() - started < 0.9
        own.restart()
        rested(app)
        track.delay("u", "stored")
        other.execute("ROLLBACK")
        other.close()
        rested(app)
        track.delay("u", "moves the spilled")
        assert len(ids_in(own)) == 3


class TestAmbiguity:
    def test_a_frozen_redis_leads_to_one_duplicate_a_timeout(self, spilling, own, caplog):
        app = spilling(segment_redis_timeout=0.3)
        ids = [track.delay("u", "before").id]
        own.pause()
        try:
            for _ in range(3):
                ids += [track.delay("u", "E").id for _ in range(5)]
                rested(app)
        finally:
            own.resume()
        ids.append(track.delay("u", "after").id)
        rested(app)
        while fallback_of(app).give_back():
            pass
        counts = Counter(ids_in(own))
        assert set(counts) == set(ids)
        assert max(counts.values()) <= 2
        unknown = fallback_of(app).unknown
        assert 1 <= unknown <= 3
        assert counts.total() - len(ids) <= unknown
        assert "with the same messageId" in caplog.text

    def test_a_part_without_an_answer_is_counted_once(self, spilling, own, caplog):
        app = spilling(segment_redis_timeout=0.3)
        own.kill()
        ids = [track.delay("u", "spilled").id for _ in range(5)]
        own.start()
        store = fallback_of(app)
        for _ in range(2):
            rested(app)
            wait_until(lambda: answers(app))  # over a connection that is used again at once
            may_append(app)
            own.pause()
            assert not store.give_back()
            own.resume()
        assert store.unknown == 5
        assert "messages of this process that may be stored in Redis as well: 5;" in caplog.text
        rested(app)
        wait_until(store.give_back)
        assert set(ids_in(own)) == set(ids)

    def test_an_unknown_outcome_is_no_sure_loss(self, make_app, own):
        app = make_app(
            segment_redis_url=own.url, segment_on_unavailable="drop", segment_redis_timeout=0.3
        )
        track.delay("u", "before")
        own.pause()
        try:
            for _ in range(5):
                track.delay("u", "E")
        finally:
            own.resume()
        rested(app)
        track.delay("u", "after")
        stats = Analytics(app=app).stats()
        assert stats.dropped == drops(unavailable=4, unknown=1)
        assert stats.accepted in (2, 3)

    @pytest.mark.parametrize("on_full", ["drop", "raise"])
    def test_half_a_batch(self, make_app, own, on_full):
        app = make_app(
            segment_redis_url=own.url, segment_on_full=on_full, segment_max_buffer_bytes=1_200_000
        )
        failure = None
        try:
            with Analytics(app=app).batch():
                for _ in range(2000):
                    track.delay("u", "E", {"x": "y" * 1000})
        except BufferFull as error:
            failure = error
        accepted = Analytics(app=app).stats().accepted
        assert 0 < accepted < 2000
        if on_full == "raise":
            assert failure.stored == accepted
            assert f"the first {accepted:,} of 2,000 messages are stored" in str(failure)
        else:
            track.delay("u", "small")
            stats = Analytics(app=app).stats()
            assert stats.dropped["full"] + stats.accepted == 2001

    def test_what_is_stored_of_a_batch_is_not_spilled(self, spilling, own):
        app = spilling()
        store = fallback_of(app)
        buffer = runtime_of(app).buffer("default")
        messages = [json.dumps({"messageId": str(n)}).encode() for n in range(1500)]
        real, calls = buffer.append_part, []

        def append_part(part, attachments):
            calls.append(len(part))
            if len(calls) == 2:
                own.kill()
            real(part, attachments)

        # Redis goes away between two parts.
        store._below.append_many.__self__.append_part = append_part
        store.append_many(messages)
        del store._below.append_many.__self__.append_part
        own.restart()
        rested(app)
        while store.give_back():
            pass
        assert ids_in(own) == [str(n) for n in range(1500)]


class TestFork:
    def test_a_connection_is_closed_by_the_process_that_opened_it(self):
        connection = sqlite3.connect(":memory:")
        _close(connection, os.getpid() + 1)  # as its parent's
        connection.execute("SELECT 1")
        _close(connection, os.getpid())
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")

    def test_a_child_is_not_held_up_by_what_the_parent_was_doing(self, path):
        spill = Spill(str(path), 10**7)
        spill.put("s", numbers(10), {})
        inside, leave = threading.Event(), threading.Event()

        taken = []

        def append(part, _):
            inside.set()
            leave.wait(20)
            taken.extend(part)

        thread = threading.Thread(target=spill.give_back, args=("s", append))
        thread.start()
        assert inside.wait(5)
        child = os.fork()
        if child == 0:
            signal.alarm(5)
            with leaving():
                spill.put("s", [b"child"], {})
                spill.give_back("s", lambda *_: os._exit(3))  # the parent is at it
        status = os.waitpid(child, 0)[1]
        leave.set()
        thread.join()
        assert status == 0
        assert taken + [row[1] for row in spill._oldest("s", 9)] == [*numbers(10), b"child"]

    def test_forks_among_puts(self, path):
        spill = Spill(str(path), 10**7, 5.0)
        going, done = True, Counter()

        def put(name):
            while going:
                spill.put("s", [b"thread"], {})
                done[name] += 1
                time.sleep(0.0005)  # SQLite's lock is not a fair one

        threads = [threading.Thread(target=put, args=(n,)) for n in range(3)]
        for thread in threads:
            thread.start()
        statuses = []
        for _ in range(20):
            child = os.fork()
            if child == 0:
                signal.alarm(10)
                with leaving():
                    spill.put("s", [b"child"], {})
            statuses.append(os.waitpid(child, 0)[1])
        going = False
        for thread in threads:
            thread.join()
        assert statuses == [0] * 20
        assert spill.waiting("s") == done.total() + 20

    def test_a_child_counts_no_drop_of_its_parent(self, make_app, own):
        app = make_app(segment_redis_url=own.url, segment_on_unavailable="drop")
        own.kill()
        for _ in range(4):
            track.delay("u", "E")
        own.restart()
        rested(app)
        child = os.fork()
        if child == 0:
            with leaving():
                track.delay("u", "child")
        assert os.waitpid(child, 0)[1] == 0
        assert sum(Analytics(app=app).stats().dropped.values()) == 0
        track.delay("u", "parent")
        assert sum(Analytics(app=app).stats().dropped.values()) == 4


def test_warnings_are_rare(spilling, own, path, caplog):
    not_a_database(path)
    spilling()
    with caplog.at_level(logging.WARNING):
        for _ in range(50):
            track.delay("u", "E")
    assert len(caplog.records) == 1
    assert len(ids_in(own)) == 50
