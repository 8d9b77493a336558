"""Who follows a source reads each stored message once, wherever it goes meanwhile."""

from __future__ import annotations

import json
import threading
from contextlib import suppress

import pytest

from batches import hold
from celery_segment import Analytics, track
from celery_segment.buffer import bounds
from celery_segment.errors import BufferFull, BufferUnavailable
from celery_segment.operations.tail import Filter, follow
from commands import ok
from support import allow, buffer_of, wait_until

SOURCE = "{segment:default}"
COPY = f"{SOURCE}:tailed:"
ALL = Filter()


@pytest.fixture
def buffer(app):
    return buffer_of(app)


def message(name):
    return json.dumps({"type": "track", "messageId": name, "userId": "u", "event": "E"}).encode()


def store(buffer, *names):
    buffer.append_many([message(name) for name in names])


def read(tail):
    """Return the ids of what is new, and how many messages were missed."""
    names, missed = [], 0
    while True:
        found = tail.read()
        names += [json.loads(each)["messageId"] for each in found.messages]
        missed += found.missed
        if not found.is_behind:
            return names, missed


def deliver(buffer):
    """Deliver all that waits."""
    while batches := buffer.claim(1):
        buffer.ack(hold(buffer, batches[0].id), "200")


class TestTail:
    def test_what_was_stored_before_is_not_read(self, buffer):
        store(buffer, "a", "b")
        tail = buffer.admin.tail()
        assert read(tail) == ([], 0)
        store(buffer, "c")
        assert read(tail) == (["c"], 0)
        assert read(tail) == ([], 0)
        buffer.admin.mark()
        store(buffer, "d")
        assert read(tail) == (["d"], 0)

    def test_what_is_delivered_between_two_looks(self, buffer, redis):
        store(buffer, "before")
        tail = buffer.admin.tail()
        store(buffer, "a")
        assert read(tail) == (["a"], 0)
        store(buffer, "b")
        deliver(buffer)
        for name in "cde":
            store(buffer, name)
            deliver(buffer)
        store(buffer, "f")
        assert redis.keys(f"{SOURCE}:batch:*") == []
        assert read(tail) == ([*"bcdef"], 0)

    def test_several_follow_a_source(self, buffer):
        first, second = buffer.admin.tail(), buffer.admin.tail()
        store(buffer, "a")
        assert read(first) == (["a"], 0)
        deliver(buffer)
        store(buffer, "b")
        deliver(buffer)
        assert read(second) == (["a", "b"], 0)
        assert read(first) == (["b"], 0)

    def test_what_was_split_buried_purged_and_forgotten(self, buffer):
        tail = buffer.admin.tail()
        store(buffer, "a", "b")
        buffer.split(hold(buffer), "400", answered=True)
        deliver(buffer)
        store(buffer, "c")
        buffer.bury(hold(buffer), "400", answered=True)
        Analytics().dead_letters.purge()
        store(buffer, "d")
        Analytics().forget(user_id="u")
        assert read(tail) == ([*"abcd"], 0)

    def test_nothing_is_copied_while_nobody_follows(self, buffer, redis):
        store(buffer, "a")
        deliver(buffer)
        assert redis.keys(f"{SOURCE}:tail*") == []

    def test_copies_end_by_themselves(self, buffer, redis, monkeypatch):
        monkeypatch.setattr(bounds, "TAIL", 0.2)
        buffer.admin.tail()
        store(buffer, "a")
        deliver(buffer)
        assert 0 < redis.pttl(f"{COPY}1") <= 200
        wait_until(lambda: not redis.keys(f"{SOURCE}:tail*"), 5)

    def test_copies_are_deleted_once_all_have_read_them(self, buffer, redis):
        first, second = buffer.admin.tail(), buffer.admin.tail()
        for name in "abc":
            store(buffer, name)
            deliver(buffer)
        assert read(first) == ([*"abc"], 0)
        assert len(redis.keys(f"{COPY}*")) == 3
        assert read(second) == ([*"abc"], 0)
        assert redis.keys(f"{COPY}*") == []

    def test_copies_are_bounded_and_what_was_missed_is_counted(self, buffer, redis):
        tail = buffer.admin.tail()
        count = bounds.TAIL_BATCHES + 5
        store(buffer, "open")
        assert read(tail) == (["open"], 0)
        for number in range(count):
            store(buffer, f"a{number}", f"b{number}")
            deliver(buffer)
        assert len(redis.keys(f"{COPY}*")) == bounds.TAIL_BATCHES
        names, missed = read(tail)
        assert names == [f"{m}{n}" for n in range(5, count) for m in "ab"]
        # That of the first batch which was read before is not known any more.
        assert missed == 2 * 5 + 1
        store(buffer, "next")
        assert read(tail) == (["next"], 0)

    def test_without_copies_what_is_still_stored_is_read(self, buffer, redis):
        tail = buffer.admin.tail()
        store(buffer, "a", "b")
        assert read(tail) == (["a", "b"], 0)
        store(buffer, "c")
        redis.delete(f"{SOURCE}:tail")
        buffer.admin.mark()
        assert buffer.compress("1")
        store(buffer, "d")
        buffer.admin.mark()
        assert redis.keys(f"{COPY}*") == []
        assert read(tail) == (["c", "d"], 0)

    def test_a_batch_that_was_changed_since_is_missed(self, buffer, redis):
        tail = buffer.admin.tail()
        store(buffer, "a")
        assert read(tail) == (["a"], 0)
        store(buffer, "b", "c")
        redis.delete(f"{SOURCE}:tail")
        buffer.admin.mark()
        buffer.admin.forget("1", lambda each: b'"a"' in each, "forgotten")
        names, missed = read(tail)
        assert names == []
        assert missed >= 2

    def test_no_copies_while_redis_is_too_full_for_calls(self, make_app, redis):
        buffer = buffer_of(make_app(segment_max_memory_share=0.5))
        tail = buffer.admin.tail()
        store(buffer, "a")
        buffer.admin.mark()
        store(buffer, "b")
        assert len(redis.keys(f"{COPY}*")) == 1
        redis.config_set("maxmemory", int(redis.info("memory")["used_memory"] / 0.6))
        buffer.due(0.0)  # as a worker's tick
        with pytest.raises(BufferFull):
            store(buffer, "c")
        buffer.admin.mark()
        assert len(redis.keys(f"{COPY}*")) == 1
        assert read(tail) == (["a", "b"], 0)

    @pytest.mark.parametrize("harm", ["flush", "open", "garble"])
    def test_what_a_hand_changes_is_said_and_the_rest_is_read(self, buffer, redis, harm):
        tail = buffer.admin.tail()
        store(buffer, "a")
        read(tail)
        if harm == "flush":
            buffer.admin.mark()
            read(tail)
            redis.flushall()
        elif harm == "open":
            redis.delete(f"{SOURCE}:open", f"{SOURCE}:count")
        else:
            redis.append(f"{SOURCE}:open", "no JSON,")
        assert tail.read().is_reset
        if harm == "garble":
            redis.delete(f"{SOURCE}:open", f"{SOURCE}:count")
            assert tail.read().is_reset
        store(buffer, "b")
        assert read(tail) == (["b"], 0)


class TestFollow:
    def collect(self, app, sources, count, wanted=ALL, act=lambda: None):
        """Follow sources until so many messages were found."""
        found, problems = [], []
        for look in follow(app, sources, wanted, started=act):
            found += look.messages
            problems += [look.problem] if look.problem else []
            if len(found) >= count:
                return found, problems
        return None

    def test_several_sources_with_shards_and_filters(self, make_app):
        sources = {"marketing": {"write_key": "k"}}
        app = make_app(segment_shards=3, segment_namespace="shop", segment_sources=sources)

        def act():
            for n in range(30):
                track.delay(f"u{n % 3}", "Bought" if n % 2 else "Seen", source="default")
                track.delay(anonymous_id=f"u{n % 3}", event="Bought", source="marketing")

        found, problems = self.collect(app, ["default", "marketing"], 60, act=act)
        assert problems == []
        assert sorted((m.source, m.user_id or m.anonymous_id, m.event) for m in found) == sorted(
            (source, f"u{n % 3}", event)
            for n in range(30)
            for source, event in (
                ("default", "Bought" if n % 2 else "Seen"),
                ("marketing", "Bought"),
            )
        )
        wanted = Filter(types={"track"}, events={"Bought"}, users={"u1"})
        found, _ = self.collect(app, ["default", "marketing"], 15, wanted, act)
        assert {(m.event, m.user_id or m.anonymous_id) for m in found} == {("Bought", "u1")}
        assert len(found) == 15

    def test_a_redis_that_does_not_answer_is_said_once(self, make_app, redis, monkeypatch):
        monkeypatch.setattr("celery_segment.operations.tail.PAUSE", 0.1)
        app = make_app(segment_redis_timeout=0.1)
        problems = []

        def is_stored():
            with suppress(BufferUnavailable):
                return track.delay("u", "E")

        thread = threading.Thread(target=wait_until, args=[is_stored])

        def started():
            redis.client_pause(800)
            thread.start()

        for look in follow(app, ["default"], started=started):
            problems += [look.problem] if look.problem else []
            if look.messages:
                break
        thread.join()
        assert len(problems) == 1
        assert "did not answer in time" in problems[0]

    def test_nothing_personal_in_a_repr(self, app, buffer):
        del buffer
        act = lambda: track.delay("secret-user", "E", {"card": "secret-card"})  # noqa: E731
        found, _ = self.collect(app, ["default"], 1, act=act)
        assert "secret" not in repr(found) + repr(Filter(users={"secret-user"}))


def test_help_says_what_is_shown(app):
    shown = ok(app, "tail", "--help")
    assert "--payload" in shown
    assert "people's data" in shown


def test_many_batches_stay_within_the_ring(buffer):
    allow(buffer, 5)
    tail = buffer.admin.tail()
    for n in range(10):
        store(buffer, *(f"{n}-{m}" for m in range(100)))
        deliver(buffer)
    names, missed = read(tail)
    assert (len(names), missed) == (1_000, 0)
