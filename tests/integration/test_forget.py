"""One person's messages are deleted wherever they wait, and nobody else's."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import threading
from itertools import chain
from pathlib import Path

import pytest

from celery_segment import Analytics, ValidationError, alias, group, identify, track
from celery_segment.buffer import (
    Attachments,
    Damaged,
    Found,
    Grouped,
    Lease,
    Stale,
    kinds_of,
    messages_of,
)
from celery_segment.operations.forget import CAUSE, Forgotten, Person, _Deletion
from celery_segment.runtime import runtime_of
from commands import failed, ok, run
from moving import BEFORE, assert_accounted, move
from operating import bury
from support import allow, buffer_of, in_child, let_pass, wait_until

P = "person-1"
BREAKER = (1_000, 1.0, 1.0)
NOTHING = Forgotten()


def store(*people, **conf):
    with Analytics(**conf).batch():
        for person in people:
            track.delay(person, "E")


def contents(redis, source="default"):
    """Return the user ids of all messages that are stored, however they are."""
    found = []
    for key in redis.scan_iter(f"{{segment:{source}}}:*"):
        if key.endswith(b":open") or b":batch:" in key:
            found += [json.loads(bytes(each))["userId"] for each in messages_of(redis.get(key))]
    return sorted(found)


@pytest.fixture(autouse=True)
def _figures_add_up(redis):
    yield
    if redis.exists("{segment:default}:open"):
        return
    assert_accounted(redis, "default")


@pytest.fixture
def buffer(app):
    return buffer_of(app)


def retried(buffer):
    (batch,) = buffer.claim(1)
    lease = buffer.begin(batch.id, "token")
    buffer.retry(lease, "own", 60.0, "503", "503", breaker=BREAKER)


class TestPlaces:
    def test_open_batch(self, app, redis):
        store("a", P, "b", P)
        assert Analytics(app=app).forget(user_id=P) == Forgotten(waiting=2)
        assert contents(redis) == ["a", "b"]
        stats = Analytics().stats()
        assert (stats.accepted, stats.ready.messages, stats.purged) == (4, 2, 2)
        assert stats.ready.bytes == redis.strlen("{segment:default}:batch:1")

    def test_ready_batches_and_one_of_them_has_only_theirs(self, make_app, redis):
        make_app(segment_max_batch_messages=2)
        store("a", P, P, P, "b", "c", P)
        assert Analytics().forget(user_id=P) == Forgotten(waiting=4)
        assert contents(redis) == ["a", "b", "c"]
        assert redis.keys("{segment:default}:*:2") == []
        assert Analytics().stats().ready.batches == 2

    def test_batch_that_waits_for_its_retry(self, app, buffer, redis):
        store(P, "a")
        retried(buffer)
        assert Analytics(app=app).forget(user_id=P) == Forgotten(retrying=1)
        assert contents(redis) == ["a"]
        stats = Analytics().stats()
        assert (stats.inflight.messages, stats.purged) == (1, 1)
        lease = buffer.begin("1", "again")
        assert (lease.count, lease.requests, len(messages_of(lease.body))) == (1, 1, 1)
        buffer.ack(lease, "200")
        assert Analytics().stats().delivered.messages == 1

    def test_dead_letters(self, app, redis):
        store(P, "a")
        batch = bury(app, "E")
        with Analytics().batch():
            track(P, "Other")
        assert Analytics().forget(user_id=P) == Forgotten(waiting=1, dead=1)
        assert contents(redis) == ["a", "u"]
        (letter,) = Analytics().dead_letters
        assert (letter.id, letter.messages) == (batch, 2)
        assert Analytics().dead_letters.replay() == 2

    @pytest.mark.parametrize("place", ["ready", "retrying", "dead"])
    def test_compressed_batch(self, app, buffer, redis, place):
        noise = random.Random(7)
        with Analytics().batch():
            for n in range(500):
                text = noise.randbytes(8).hex()
                track.delay(P if n % 5 == 0 else f"u{n}", "E", {"same": "s" * 99, "text": text})
        buffer.admin.mark()
        assert buffer.compress("1")
        allow(buffer, 5)
        if place == "retrying":
            retried(buffer)
        elif place == "dead":
            (batch,) = buffer.claim(1)
            buffer.bury(buffer.begin(batch.id, "t"), "400", answered=True)
        name = "waiting" if place == "ready" else place
        assert Analytics(app=app).forget(user_id=P) == Forgotten(**{name: 100})
        content = redis.get("{segment:default}:batch:1")
        messages = messages_of(content)
        size = sum(len(each) + 1 for each in messages)
        meta = redis.hgetall("{segment:default}:meta:1")
        assert (len(messages), size) == (int(meta[b"count"]), int(meta[b"bytes"]))
        assert int(meta[b"saved"]) == size - len(content) > 0
        saved = int(redis.hget("{segment:default}:stats", "saved_bytes"))
        assert saved == (0 if place == "dead" else size - len(content))
        assert P not in contents(redis)

    def test_spilled_on_this_host(self, make_app, redis, tmp_path):
        path = str(tmp_path / "spill")
        app = make_app(segment_on_unavailable="spill", segment_spill_path=path)
        spill = runtime_of(app).spill
        spill.put("default", [json.dumps({"userId": u}).encode() for u in (P, "a") * 600], {})
        spill.put("other", [json.dumps({"userId": P}).encode()], {})
        dry = Analytics().forget(user_id=P, dry_run=True)
        assert dry == Forgotten(spilled=600)
        assert spill.waiting("default") == 1_200
        assert Analytics().forget(user_id=P) == Forgotten(waiting=600)
        assert contents(redis) == ["a"] * 600
        assert spill.sources() == {"other": 1}

    def test_spill_file_in_the_hands_of_another_process(self, make_app, tmp_path, monkeypatch):
        monkeypatch.setattr("celery_segment.operations.forget.SPILL_WAIT", 0.1)
        path = str(tmp_path / "spill")
        app = make_app(segment_on_unavailable="spill", segment_spill_path=path)
        spill = runtime_of(app).spill
        spill.put("default", [json.dumps({"userId": P}).encode()], {})
        with _held_by_another_process(f"{path}-given"):
            found = Analytics().forget(user_id=P)
        assert found == Forgotten(spilled=1)
        assert not found.is_complete
        assert Analytics().forget(user_id=P) == Forgotten(waiting=1)


class _held_by_another_process:  # noqa: N801 - as a function is named
    """Lock a file as a process does that gives a spill file back."""

    def __init__(self, path):
        context = multiprocessing.get_context("spawn")
        self._locked, self._end = context.Event(), context.Event()
        args = (path, self._locked, self._end)
        self._process = context.Process(target=_lock, args=args)

    def __enter__(self):
        self._process.start()
        assert self._locked.wait(20)

    def __exit__(self, *_):
        self._end.set()
        self._process.join()


def _lock(path, locked, end):
    import fcntl

    with Path(path).open("r+b") as stream:
        fcntl.lockf(stream, fcntl.LOCK_EX)
        locked.set()
        end.wait(20)


class TestUnderWay:
    def test_a_leased_batch_is_kept_and_reported(self, app, buffer, redis):
        store(P, "a")
        (batch,) = buffer.claim(1)
        lease = buffer.begin(batch.id, "token")
        before = redis.get("{segment:default}:batch:1")
        for dry_run in (True, False):
            found = Analytics(app=app).forget(user_id=P, dry_run=dry_run)
            assert (found.deleted, found.under_way) == (0, 1)
            assert 110 < found.repeat_in <= 120
            assert not found.is_complete
        assert redis.get("{segment:default}:batch:1") == before
        buffer.ack(lease, "200")
        assert Analytics().forget(user_id=P) == NOTHING

    def test_that_of_others_is_not_reported(self, app, buffer):
        store("a", "b")
        buffer.claim(1)
        assert Analytics(app=app).forget(user_id=P) == NOTHING

    def test_what_a_worker_held_that_is_gone_is_deleted(self, app, buffer, redis):
        store(P, "a")
        (batch,) = buffer.claim(1)
        lease = buffer.begin(batch.id, "token")
        let_pass(redis, 121)
        assert Analytics(app=app).forget(user_id=P) == Forgotten(waiting=1)
        assert contents(redis) == ["a"]
        with pytest.raises(Stale):
            buffer.ack(lease, "200")

    def test_what_on_delivered_still_needs_is_kept_and_reported(self, make_app):
        app = make_app(segment_on_delivered="somebody")
        buffer = buffer_of(app)
        store(P)
        (batch,) = buffer.claim(1)
        settled = buffer.ack(buffer.begin(batch.id, "token"), "200")
        found = Analytics().forget(user_id=P)
        assert (found.deleted, found.under_way) == (0, 1)
        assert 110 < found.repeat_in <= 120
        buffer.called(settled)
        assert Analytics().forget(user_id=P) == NOTHING

    def test_a_batch_that_is_being_moved_is_kept_and_reported(self, app, buffer):
        store(P)
        _, mover = buffer.admin.start_move()
        assert buffer.admin.next_move(mover, largest_dead=10**9) is not None
        assert Analytics(app=app).forget(user_id=P) == Forgotten(under_way=1)

    def test_a_batch_that_is_claimed_between_reading_and_writing_is_kept(self, app, buffer, redis):
        store(P, "a")
        buffer.admin.mark()

        def owns(message):
            buffer.claim(1)
            return Person(frozenset([P]), frozenset()).owns(message)

        found = buffer.admin.forget("1", owns, CAUSE)
        assert (found.count, found.place) == (1, "inflight")
        assert 110 < found.seconds <= 120
        assert contents(redis) == ["a", P]
        assert Analytics(app=app).forget(user_id=P).under_way == 1

    def test_a_batch_that_is_compressed_between_reading_and_writing(self, buffer, redis):
        store(P, *["a"] * 99)
        buffer.admin.mark()
        compressed = []

        def owns(message):
            compressed.append(buffer.compress("1"))
            return Person(frozenset([P]), frozenset()).owns(message)

        assert buffer.admin.forget("1", owns, CAUSE) == Found(1, "ready")
        assert any(compressed)
        assert contents(redis) == ["a"] * 99

    def test_a_compression_that_read_the_batch_before_restores_nothing(self, app, redis):
        """As ``compress`` is killed between its steps, and another goes on with the first's."""
        buffer = buffer_of(app)
        store(P, *["a"] * 99)
        buffer.admin.mark()
        run_script, found = buffer._server.run, []

        def between(*args, **options):
            if not found:
                found.append(None)
                found.append(Analytics(app=app).forget(user_id=P))
            return run_script(*args, **options)

        buffer._server.run = between
        try:
            assert not buffer.compress("1")
        finally:
            buffer._server.run = run_script
        assert found[1] == Forgotten(waiting=1)
        assert contents(redis) == ["a"] * 99


class TestWhose:
    @pytest.mark.usefixtures("app")
    def test_each_kind_of_id(self, redis):
        with Analytics().batch():
            track.delay(P, "E")
            track.delay(anonymous_id="anonymous", event="E")
            track.delay("x", "E", anonymous_id="anonymous")
            alias.delay(user_id="y", previous_id=P)
            alias.delay(user_id="z", previous_id="anonymous")
            group.delay(user_id=P, group_id="g")
            group.delay(user_id="kept1", group_id=P)
            identify.delay(user_id="kept2", traits={"userId": P})
            track.delay("kept3", "E", {"userId": P})
            track.delay("anonymous", "E")
        ids = {"user_id": [P, "unknown"], "anonymous_id": "anonymous"}
        assert Analytics().forget(**ids) == Forgotten(waiting=6)
        assert contents(redis) == ["anonymous", "kept1", "kept2", "kept3"]
        assert Analytics().forget(**ids) == NOTHING

    def test_ids_of_any_script(self, app, redis):
        name = 'é"\\中😀'
        store(name, "a")
        assert Analytics(app=app).forget(user_id=name) == Forgotten(waiting=1)
        assert contents(redis) == ["a"]

    @pytest.mark.usefixtures("app")
    @pytest.mark.parametrize("ids", [{}, {"user_id": ""}, {"anonymous_id": [""]}, {"user_id": [5]}])
    def test_no_id_deletes_nothing(self, ids, redis):
        store("a")
        with pytest.raises(ValidationError):
            Analytics().forget(**ids)
        assert contents(redis) == ["a"]

    def test_a_person_is_in_no_repr(self):
        assert P not in repr(Person(frozenset([P]), frozenset([P])))


class TestAttachments:
    def test_callbacks_and_traces_stay_with_their_messages(self, app, buffer):
        people = ["a", P, "b", P, "c"]
        messages = [json.dumps({"userId": each}).encode() for each in people]
        own = {n: Attachments(b"c%d" % n, b"t%d" % n) for n in range(1, 5)}
        buffer.append_many(messages, own)
        assert Analytics(app=app).forget(user_id=P) == Forgotten(waiting=2)
        (settled,) = buffer.uncalled()
        assert sorted(settled.callbacks) == [b"c1", b"c3"]
        assert (settled.cause, settled.reported, settled.count) == (CAUSE, True, 2)
        buffer.called(settled)
        (batch,) = buffer.claim(1)
        lease = buffer.begin(batch.id, "token")
        assert sorted(buffer.traces(lease)) == [b"t2", b"t4"]
        settled = buffer.ack(lease, "200")
        assert sorted(settled.callbacks) == [b"c2", b"c4"]
        buffer.called(settled)

    def test_two_people_of_one_batch(self, app, buffer):
        messages = [json.dumps({"userId": each}).encode() for each in ("a", "b", "c")]
        buffer.append_many(messages, {n: Attachments(b"c%d" % n) for n in range(3)})
        assert Analytics(app=app).forget(user_id="a") == Forgotten(waiting=1)
        assert Analytics(app=app).forget(user_id="b") == Forgotten(waiting=1)
        assert sorted(s.callbacks[0] for s in buffer.uncalled()) == [b"c0", b"c1"]

    def test_a_dead_letters_callbacks_have_been_called(self, app, buffer):
        messages = [json.dumps({"userId": each}).encode() for each in ("a", P)]
        buffer.append_many(messages, {n: Attachments(b"c%d" % n) for n in range(2)})
        (batch,) = buffer.claim(1)
        settled = buffer.bury(buffer.begin(batch.id, "t"), "400", answered=True)
        buffer.called(settled)
        assert Analytics(app=app).forget(user_id=P) == Forgotten(dead=1)
        assert [*buffer.uncalled()] == []
        assert Analytics().dead_letters.replay() == 1
        (batch,) = buffer.claim(1)
        settled = buffer.ack(buffer.begin(batch.id, "t"), "200")
        assert settled.callbacks == (b"c0",)
        buffer.called(settled)


class TestDamage:
    @pytest.mark.parametrize("what", ["garbled", "record"])
    def test_what_cannot_be_read_or_changed_is_left_and_reported(self, app, buffer, redis, what):
        bury(app, "E")
        store(P)
        if what == "garbled":
            size = redis.strlen("{segment:default}:batch:1")
            redis.set("{segment:default}:batch:1", b"\xff" * size)
        else:
            redis.hdel("{segment:default}:meta:1", "count", "bytes")
        before = redis.get("{segment:default}:batch:1")
        assert Analytics(app=app).forget(user_id="u") == Forgotten(damaged=1)
        others = int(what == "garbled")  # what is read has no message of this person
        assert Analytics().forget(user_id=P) == Forgotten(waiting=1, damaged=others)
        with pytest.raises(Damaged):
            buffer.admin.forget("1", lambda _: True, CAUSE)
        assert redis.get("{segment:default}:batch:1") == before
        redis.flushdb()

    def test_what_a_worker_holds_is_left_to_it(self, app, buffer, redis):
        store(P)
        buffer.claim(1)
        redis.set("{segment:default}:batch:1", b"\xff")
        assert Analytics(app=app).forget(user_id=P) == NOTHING
        redis.flushdb()


def _work(buffer, own, delivered, ends):
    """Settle batches in all ways at random, and note the messages that are delivered."""
    while not ends.is_set():
        for batch in buffer.claim(3):
            lease = buffer.begin(batch.id, f"t{own.random()}")
            if isinstance(lease, Lease):
                _settle(buffer, lease, own.randrange(5), delivered)


def _settle(buffer, lease, how, delivered):
    match how:
        case 0:
            buffer.ack(lease, "200")
            delivered.extend(json.loads(bytes(each)) for each in messages_of(lease.body))
        case 1 if lease.count > 1:
            buffer.split(lease, "400")
        case 2:
            buffer.bury(lease, "400", answered=True)
        case 3:
            buffer.retry(lease, "own", 0.0, "503", "503", breaker=BREAKER)
        case _:
            buffer.release(lease.id, lease.token)


class KilledAt(Person):
    """A person at whose messages the process is killed, once so many are left."""

    def __init__(self, redis, left):
        super().__init__(frozenset([P]), frozenset())
        object.__setattr__(self, "is_due", lambda: contents(redis).count(P) == left)

    def owns(self, message):
        if self.is_due():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().owns(message)


class TestPasses:
    def test_more_batches_than_a_page_wherever_they_are(self, make_app, redis, monkeypatch):
        monkeypatch.setattr("celery_segment.buffer.bounds.LIST_BATCHES", 3)
        buffer = buffer_of(make_app(segment_max_batch_messages=1, segment_max_inflight=20))
        store(*[P, "a"] * 20)
        buffer.admin.mark()
        allow(buffer, 20)
        for number, batch in enumerate(buffer.claim(16)):
            lease = buffer.begin(batch.id, "token")
            if number < 8:
                buffer.retry(lease, "own", 60.0, "503", "503", breaker=BREAKER)
            elif number < 14:
                buffer.bury(lease, "400", answered=True)
        assert [*buffer.admin.batches()] == sorted(map(str, range(1, 41)))
        found = Analytics().forget(user_id=P)
        assert (found.waiting, found.retrying, found.dead, found.under_way) == (12, 4, 3, 1)
        assert contents(redis) == ["a"] * 20 + [P]

    def test_batches_that_were_moved_from_another_source(self, make_app, redis, monkeypatch):
        monkeypatch.setattr("celery_segment.buffer.bounds.LIST_BATCHES", 2)
        app = make_app(**BEFORE, segment_max_batch_messages=1)
        buffer_of(app, "old").append_many([json.dumps({"userId": P}).encode()] * 5)
        move(app)
        assert [*buffer_of(app, "old").admin.batches()] == []
        assert Analytics("new").forget(user_id=P) == Forgotten(waiting=5)
        assert redis.keys("{segment:*}:batch*") == []

    def test_what_is_stored_after_the_beginning_is_not_searched(self, buffer, redis):
        store(P)
        stored = []

        class Late(Person):
            def owns(self, message):
                if len(stored) < 5:
                    stored.append(message)
                    store(P)
                    buffer.admin.mark()
                return super().owns(message)

        found = _Deletion(buffer, None, Late(frozenset([P]), frozenset())).run()
        assert found == Forgotten(waiting=1)
        assert contents(redis) == [P]

    def test_a_batch_that_is_split_before_it_could_be_read(self, app, buffer, redis, monkeypatch):
        store(P, "a", P)
        (batch,) = buffer.claim(1)
        lease, batches = buffer.begin(batch.id, "token"), buffer.admin.batches

        def listed():
            for each in batches():
                if each == lease.id:
                    buffer.split(lease)
                yield each

        monkeypatch.setattr(buffer.admin, "batches", listed)
        assert Analytics(app=app).forget(user_id=P) == Forgotten(waiting=2)
        assert contents(redis) == ["a"]

    def test_an_evicted_batch_is_not_waited_for(self, app, buffer, redis):
        store("a")
        buffer.claim(1)
        redis.delete("{segment:default}:batch:1")
        assert Analytics(app=app).forget(user_id=P) == NOTHING

    def test_while_workers_claim_split_retry_and_put_back(self, make_app, redis):
        """Each message of the person is deleted, delivered, or reported as under way."""
        app = make_app(segment_max_batch_messages=8, segment_max_inflight=50)
        buffer = buffer_of(app)
        allow(buffer, 50)
        store(*[P, "a", "b"] * 400)
        delivered, ends = [], threading.Event()
        threads = [
            threading.Thread(target=_work, args=(buffer, random.Random(seed), delivered, ends))
            for seed in range(2)
        ]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(delivered) > 20)
        found = Analytics(app=app).forget(user_id=P)
        ends.set()
        for thread in threads:
            thread.join()
        theirs = sum(message["userId"] == P for message in delivered)
        left = contents(redis).count(P)
        assert found.deleted + theirs + left == 400
        assert left <= found.under_way
        assert found.deleted > 0
        again = Analytics(app=app).forget(user_id=P)
        assert again.deleted + again.under_way == left
        others = sum(message["userId"] != P for message in delivered)
        assert others + len(contents(redis)) == 800
        assert Analytics().stats().purged == 400 - theirs

    def test_killed_at_any_batch_and_repeated(self, make_app, redis):
        app = make_app(segment_max_batch_messages=2)
        store(*[P, "a"] * 6, P)
        for left in (5, 3, 1):
            deletion = _Deletion(buffer_of(app), None, KilledAt(redis, left))
            with pytest.raises(AssertionError, match="ended with -9"):
                in_child(deletion.run)
            assert contents(redis).count(P) == left
        assert Analytics().forget(user_id=P) == Forgotten(waiting=1)
        assert contents(redis) == ["a"] * 6


class TestEverywhere:
    #: Where messages wait. Each has its part of all people's, and two of the person's.
    PLACES = ("dead", "retrying", "compressed", "ready", "open", "spilled")

    @pytest.fixture
    def parts(self):
        """The messages of 10,000 people, by the place where they are to wait."""
        parts = {}
        for at, place in enumerate(self.PLACES):
            people = [f"u{n}" for n in range(at, 10_000, len(self.PLACES))]
            # E24 is the most frequent event, E23 is beyond those that a batch tells apart.
            events = [f"E{min(n % 60, 24)}" for n in range(len(people))]
            events[23::120] = ["E24"] * len(events[23::120])
            parts[place] = [
                event_of(user, name, f"é {user}" * 9)
                for user, name in zip(people, events, strict=True)
            ]
        return parts

    def test_one_of_ten_thousand_people(self, make_app, redis, tmp_path, parts):
        """Wherever they wait, the person's messages go, and all others' bytes stay."""
        path = str(tmp_path / "spill")
        app = make_app(segment_on_unavailable="spill", segment_spill_path=path)
        buffer, spill = buffer_of(app), runtime_of(app).spill
        allow(buffer, 9)
        theirs = [event_of(P, "E24", "1"), event_of(P, "E23", "2")]
        for place, messages in parts.items():
            middle = len(messages) // 2
            wait_in(place, [*messages[:middle], *theirs, *messages[middle:]], buffer, spill)
        places = {buffer.admin.place(batch)[0] for batch in buffer.admin.batches()}
        assert places == {"dead", "retrying", "ready"}
        before = {group.kind: group.messages for group in buffer.admin.dead_groups()}
        assert len(before) == 21

        found = Analytics(app=app).forget(user_id=P)
        # What was open or spilled is ready by then.
        assert found == Forgotten(waiting=8, retrying=2, dead=2)
        assert sorted(everything_stored(redis)) == sorted(chain(*parts.values()))
        assert spill.waiting("default") == 0
        assert_accounted(redis, "default")
        stats = Analytics(app=app).stats()
        assert (stats.purged, stats.accepted) == (12, 10_000 + 12)
        after = {group.kind: group.messages for group in buffer.admin.dead_groups()}
        lost = {kind: before[kind] - after.get(kind, 0) for kind in before}
        assert {kind: n for kind, n in lost.items() if n} == {
            "track 'E24'": 1, "other messages": 1
        }  # fmt: skip
        assert Analytics(app=app).forget(user_id=P) == Forgotten()


def event_of(user, name, text):
    message = {"type": "track", "event": name, "userId": user, "text": text}
    return json.dumps(message, ensure_ascii=False).encode()


def wait_in(place, messages, buffer, spill):
    """Store messages as one batch that waits in a place."""
    if place == "spilled":
        spill.put("default", messages, {})
        return
    buffer.append_many(messages)
    if place == "open":
        return
    mark = str(buffer.admin.mark())
    if place == "compressed":
        assert buffer.compress(mark)
    if place in ("retrying", "dead"):
        (batch,) = buffer.claim(1)
        lease = buffer.begin(batch.id, "t")
        assert (batch.id, lease.count) == (mark, len(messages))
    if place == "retrying":
        buffer.retry(lease, "own", 60.0, "503", "503", breaker=BREAKER)
    if place == "dead":
        grouped = Grouped("400", kinds_of(lease.body))
        buffer.bury(lease, "400", answered=True, grouped=grouped)


def everything_stored(redis):
    """Return all messages that are in Redis."""
    return [
        bytes(each)
        for key in redis.scan_iter("{segment:default}:*")
        if key.endswith(b":open") or b":batch:" in key
        for each in messages_of(redis.get(key))
    ]


class TestCommand:
    def test_it_asks_first(self, app, redis):
        store(P, "a", P)
        text = failed(app, "forget", "--user-id", P, answer="n\n")
        assert text.startswith("default: delete 2 messages permanently? [y/N]: ")
        assert contents(redis) == ["a", P, P]
        text = ok(app, "forget", "--user-id", P, answer="y\n")
        assert text == "default: deleted 2 messages (2 waiting)\n"
        assert contents(redis) == ["a"]
        assert ok(app, "forget", "--user-id", P, "--yes") == "default: deleted 0 messages\n"

    def test_dry_run(self, app, buffer, redis):
        store(P, "a")
        retried(buffer)
        store(P)
        bury(app, "E")
        before = contents(redis)
        expected = "default: would delete 2 messages (1 waiting for a retry, 1 in dead letters)\n"
        assert ok(app, "forget", "--user-id", P, "--dry-run") == expected
        assert contents(redis) == before

    def test_what_is_under_way_is_told_with_when_to_repeat(self, app, buffer):
        store(P)
        buffer.claim(1)
        result = run(app, "forget", "--user-id", P, "--yes")
        assert result.exit_code == 1
        text = "default: deleted 0 messages; 1 message under way to Segment: repeat this in 1"
        assert result.stdout.startswith(text)
        found = json.loads(run(app, "forget", "--user-id", P, "--yes", "--json").stdout)
        assert 100 < found["default"].pop("repeat_in") <= 120
        places = dict.fromkeys(("deleted", "waiting", "retrying", "dead", "spilled", "damaged"), 0)
        assert found == {"default": {**places, "under_way": 1, "is_complete": False}}

    def test_all_sources_or_those_named(self, make_app):
        sources = {name: {"write_key": "k"} for name in ("a", "b")}
        app = make_app(segment_sources=sources, segment_write_key=None)
        for name in sources:
            for person in (P, "x"):
                track(person, "E", source=name)
        told = ok(app, "forget", "--anonymous-id", P, "--user-id", "x", "--source", "b", "--yes")
        assert told == "b: deleted 1 message (1 waiting)\n"
        told = ok(app, "forget", "--user-id", P, "--yes").splitlines()
        expected = [f"{name}: deleted 1 message (1 waiting)" for name in "ab"]
        assert sorted(told) == [*expected, "default: deleted 0 messages"]

    @pytest.mark.parametrize("ids", [(), ("--user-id", "")])
    def test_no_id(self, app, ids):
        result = run(app, "forget", "--yes", *ids)
        assert result.exit_code in (1, 2)
        assert "user-id" in result.stderr or "user_id" in result.stderr
