"""All that is stored of a source moves to another one: its edges."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from celery_segment import Analytics, ConfigurationError, SegmentBufferError
from celery_segment.buffer import (
    UNGROUPED,
    Attachments,
    Grouped,
    Stale,
    Violations,
    bounds,
    kinds_of,
    merge_periods,
)
from celery_segment.buffer.history import KEPT, SECONDS
from celery_segment.operations.moving import rename
from celery_segment.testing import EmbeddedRedis
from moving import AFTER, BEFORE, assert_accounted, fill, message, move, stats
from support import buffer_of, let_pass

BREAKER = (5, 1.0, 60.0)


@pytest.fixture
def app(make_app):
    """The application after the renaming; `before` is another process with the old name."""
    return make_app(**AFTER)


@pytest.fixture
def before(make_app):
    return make_app(**BEFORE)


@pytest.fixture
def app_and_before(before, app):
    return app, before


def names(server):
    return [m["messageId"] for m in server.messages]


def keys_of(redis, source="old"):
    return sorted(redis.keys(f"{{segment:{source}}}*"))


def test_nothing_is_stored(app, redis):
    made = move(app)
    assert (made.moved, made.remaining, made.waits_for) == (0, 0, "")
    assert redis.keys("{segment:*") == []


def test_everything_moves_and_nothing_is_left(before, app, redis, server):
    old = buffer_of(before, "old")
    fill(before, 0, 3)
    (batch,) = old.claim(1)
    old.ack(old.begin(batch.id, "t"), "200")
    fill(before, 3, 4)
    (batch,) = old.claim(1)
    old.bury(old.begin(batch.id, "t"), "400 Bad Request", status="400", answered=True)
    fill(before, 7, 5)
    (batch,) = old.claim(1)
    old.retry(old.begin(batch.id, "t"), "failure", 600.0, "503", "503", breaker=BREAKER)
    fill(before, 12, 6)
    old.admin.mark()
    fill(before, 18, 7)
    old.count_dropped("full", 9)
    old.count_violations([Violations.of("track", "E", "properties.a[3].b", "type")] * 2)
    expected, letter = stats(before, "old"), next(iter(old.admin.dead_letters()))
    fill(app, 100, 2, "new")

    made = move(app)
    assert (made.moved, made.remaining, made.waits_for) == (22, 0, "")
    assert keys_of(redis) == []
    assert_accounted(redis, "new")
    found = stats(app)
    assert found.accepted == expected.accepted + 2
    assert found.ready.messages == 5 + 6 + 7
    assert (found.buffered.messages, found.dead.messages) == (2, 4)
    assert (found.delivered, found.attempts) == (expected.delivered, expected.attempts)
    assert found.last_delivered == expected.last_delivered
    assert (found.latency, found.latency.count) == (expected.latency, found.delivered.messages)
    assert found.dropped == expected.dropped
    assert found.violations == expected.violations == {"type": 2}
    assert buffer_of(app, "new").admin.violations() == [
        Violations("track", "E", "properties.a[].b", "type", 2)
    ]
    assert (found.buried, found.retries) == (4, 1)
    (moved,) = Analytics("new", app=app).dead_letters
    assert (moved.messages, moved.bytes, moved.buried, moved.reason) == (
        *(letter.messages, letter.bytes, letter.buried, letter.reason),
    )
    assert Analytics("new", app=app).deliver(20) == 0
    # What was stored first is delivered first, and each byte is the same.
    assert names(server) == [f"m{n}" for n in (*range(7, 25), 100, 101)]
    assert Analytics("new", app=app).dead_letters.replay() == 4
    assert Analytics("new", app=app).deliver(20) == 0
    assert names(server)[-4:] == [f"m{n}" for n in range(3, 7)]


def test_the_history_moves_too(before, app, redis):
    old, new = buffer_of(before, "old"), buffer_of(app, "new")
    for buffer, make, source, count in ((old, before, "old", 3), (new, app, "new", 4)):
        fill(make, 0, count, source)
        buffer.ack(buffer.begin(buffer.claim(1)[0].id, "t"), "200")
    earlier = redis.time()[0] // SECONDS - 100
    redis.hset(f"{{segment:old}}:history:{earlier}", mapping={"buried": 5, "attempts:400": 1})
    expected = merge_periods([old.admin.history(24), new.admin.history(24)])
    assert move(app).waits_for == ""
    assert keys_of(redis) == []
    found = new.admin.history(24)
    assert [_counted(period) for period in found] == [_counted(period) for period in expected]
    assert sum(period.delivered for period in found) == 7
    assert sum(period.buried for period in found) == 5
    assert 0 < redis.ttl(f"{{segment:new}}:history:{earlier}") <= KEPT - 99 * SECONDS


def _counted(period):
    return replace(period, latency=period.latency.counts)


def test_dead_letters_keep_their_groups(before, app, redis):
    old, new = buffer_of(before, "old"), buffer_of(app, "new")

    def bury(buffer, *events, reason="400", grouped=True):
        messages = [json.dumps({"type": "track", "event": event}).encode() for event in events]
        buffer.append_many(messages)
        held = buffer.begin(buffer.claim(1)[0].id, "t")
        kinds = kinds_of(held.body) if grouped else {}
        buffer.bury(held, reason, answered=True, grouped=Grouped(reason, kinds))

    bury(old, "A", "B", "A")
    bury(old, "A", reason="503")
    bury(old, "C", grouped=False)
    bury(new, "A")
    kinds = {(g.reason, g.kind): g.messages for g in old.admin.dead_groups()}
    assert kinds == {
        ("400", "track 'A'"): 2,
        ("400", "track 'B'"): 1,
        ("400", "other messages"): 1,
        ("503", "track 'A'"): 1,
    }
    assert move(app).moved == 5
    assert keys_of(redis) == []
    assert_accounted(redis, "new")
    found = {(g.reason, g.kind): (g.messages, g.letters) for g in new.admin.dead_groups()}
    assert found == {
        ("400", "track 'A'"): (3, 2),
        ("400", "track 'B'"): (1, 1),
        ("400", "other messages"): (1, 1),
        ("503", "track 'A'"): (1, 1),
    }


def test_dead_letters_of_an_older_release_have_no_groups(before, app, redis):
    old, new = buffer_of(before, "old"), buffer_of(app, "new")
    fill(before, 0, 3)
    held = old.begin(old.claim(1)[0].id, "t")
    without = SimpleNamespace(encode=lambda _: [bounds.MOST_GROUPS])
    old.bury(held, "400", answered=True, grouped=without)
    assert move(app).moved == 3
    assert keys_of(redis) == []
    (group,) = new.admin.dead_groups()
    assert (group.id, group.messages, group.letters) == (UNGROUPED, 3, 1)
    assert Analytics("new", app=app).dead_letters.purge(group=UNGROUPED) == 3


def test_many_batches_into_a_source_that_never_had_one(make_app, app):
    before = make_app(**BEFORE, segment_max_batch_messages=1)
    fill(before, 0, 2 * bounds.BACKLOG)
    assert move(app).moved == 2 * bounds.BACKLOG
    new = buffer_of(app, "new")
    assert new.compressible() == []
    mark = new.admin.mark()
    assert new.admin.remaining(mark) == 2 * bounds.BACKLOG
    assert new.due(0.2)
    assert [batch.id for batch in new.claim(2)] == ["0.000000001", "0.000000002"]


def test_halves_of_a_moved_batch_keep_its_place(before, app, server):
    fill(before, 0, 4)
    buffer_of(before, "old").admin.mark()
    fill(before, 4, 4)
    move(app)
    new = buffer_of(app, "new")
    new.split(new.begin(new.claim(1)[0].id, "t"), "400")
    assert Analytics("new", app=app).deliver(20) == 0
    assert names(server) == [f"m{n}" for n in range(8)]


def test_twice_and_a_second_source_into_the_same(make_app, app, redis):
    several = make_app(segment_sources={"old": {}, "older": {}, "new": {}})
    fill(several, 0, 3)
    fill(several, 3, 4, "older")
    assert move(app).moved == 3
    assert move(app).moved == 0
    assert move(app, old="older").moved == 4
    fill(several, 7, 5)  # a web process with the old name; its batches have the same numbers again
    assert move(app).moved == 5
    assert stats(app).ready.messages == stats(app).accepted == 12
    assert_accounted(redis, "new")


def test_a_batch_in_flight_is_left_to_its_holder_and_moved_once_its_lease_is_over(
    before, app, redis
):
    old = buffer_of(before, "old")
    fill(before, 0, 3)
    old.admin.mark()
    fill(before, 3, 4)
    held = [old.begin(batch.id, f"t{batch.id}") for batch in old.claim(2)]
    fill(before, 7, 5)
    made = move(app)
    assert (made.moved, made.remaining) == (5, 7)
    assert made.waits_for.startswith("a worker that delivers them")
    old.ack(held[0], "200")
    let_pass(redis, old.source.lease + 1, "old")
    made = move(app)
    assert (made.moved, made.remaining, made.waits_for) == (4, 0, "")
    with pytest.raises(Stale):
        old.ack(held[1], "200")
    assert keys_of(redis) == []
    assert stats(app).accepted == 12
    assert stats(app).delivered.messages == 3
    assert_accounted(redis, "new")


def test_it_waits_for_a_lease_that_ends(make_app, app, redis):
    before = make_app(**BEFORE, segment_lease=1.0, segment_timeout=0.5)
    fill(before, 0, 3)
    old = buffer_of(before, "old")
    old.begin(old.claim(1)[0].id, "t")
    made = move(app, timeout=20)
    assert (made.moved, made.remaining) == (3, 0)
    assert keys_of(redis) == []


def test_callbacks_and_traces_come_along(before, app, redis):
    attachments = {0: Attachments(b'{"a": 1}', b"00-a-b-01"), 2: Attachments(b"[]", b"")}
    buffer_of(before, "old").append_many([message(n) for n in range(3)], attachments)
    move(app)
    new = buffer_of(app, "new")
    held = new.begin(new.claim(1)[0].id, "t")
    assert new.traces(held) == [b"00-a-b-01"]
    assert sorted(new.ack(held, "200").callbacks) == [b"[]", b'{"a": 1}']
    assert keys_of(redis) == []


def test_as_many_callbacks_as_a_batch_may_have(before, app, redis):
    attachments = {n: Attachments(b"x" * 100, b"00-a-b-01") for n in range(250)}
    buffer_of(before, "old").append_many([message(n) for n in range(250)], attachments)
    move(app)
    new = buffer_of(app, "new")
    held = new.begin(new.claim(1)[0].id, "t")
    assert len(new.ack(held, "200").callbacks) == 250
    assert keys_of(redis) == []


def test_callbacks_of_settled_batches_are_run_and_dead_letters_wait_for_them(make_app, app, redis):
    before = make_app(**BEFORE, segment_on_failed="tests.hook")
    old = buffer_of(before, "old")
    own = {"id": "m0", "result": "m0", "link_error": []}
    old.append_many([message(0)], {0: Attachments(json.dumps(own).encode(), b"")})
    (batch,) = old.claim(1)
    old.bury(old.begin(batch.id, "t"), "400 Bad Request", status="400", answered=True)
    made = move(app)
    assert (made.moved, made.remaining) == (0, 1)
    assert made.waits_for.startswith("callbacks")
    let_pass(redis, old.source.lease + 1, "old")
    made = move(app)
    assert (made.moved, made.waits_for) == (1, "")
    assert keys_of(redis) == []
    assert stats(app).dead.messages == 1


def test_dead_letters_that_the_new_source_has_no_room_for_stay(make_app, redis):
    sources = {"new": {"max_dead_bytes": 1_000_000}}
    app, before = make_app(segment_sources=sources), make_app(**BEFORE)
    old = buffer_of(before, "old")
    for n in range(3):
        old.append_many([message(n).replace(b"m", b"m" * 30_000, 1)] * 14)
        (batch,) = old.claim(1)
        old.bury(old.begin(batch.id, "t"), "400", status="400", answered=True)
    made = move(app, timeout=None)
    assert (made.moved, made.remaining) == (28, 14)
    assert "dead letters are full" in made.waits_for
    assert_accounted(redis, "old")
    assert_accounted(redis, "new")
    Analytics("new", app=app).dead_letters.purge()
    assert move(app, timeout=None).moved == 14
    assert keys_of(redis) == []


def test_compressed_batches_stay_compressed(before, app, server):
    old = buffer_of(before, "old")
    for n in range(4):
        fill(before, 50 * n, 50)
        assert old.compress(str(old.admin.mark()))
    move(app)
    less = sum(50 * (len(message(n)) + 1) for n in (10, 60)) // 2
    assert stats(app).saved_bytes > less
    assert Analytics("new", app=app).deliver(20) == 0
    assert names(server) == [f"m{n}" for n in range(200)]
    assert stats(app).saved_bytes == 0


def test_a_batch_whose_content_is_gone_is_settled_as_damaged(before, app, redis, server):
    fill(before, 0, 3)
    batch = buffer_of(before, "old").admin.mark()
    redis.delete(f"{{segment:old}}:batch:{batch}")
    fill(before, 3, 2)
    assert move(app).moved == 5
    Analytics("new", app=app).deliver(20)
    assert names(server) == ["m3", "m4"]
    assert stats(app).damaged == 3
    assert_accounted(redis, "new")


def test_a_full_redis_can_still_be_moved(make_app):
    with EmbeddedRedis() as own, own.client() as client:
        app, before = make_app(broker_url=own.url, **AFTER), make_app(broker_url=own.url, **BEFORE)
        fill(before, 0, 2_000)
        client.config_set("maxmemory", client.info("memory")["used_memory"] - 100_000)
        with pytest.raises(SegmentBufferError):
            fill(before, 2_000, 1)
        assert move(app).moved == 2_000
        assert client.keys("{segment:old}*") == []
        assert stats(app).accepted == 2_000


def test_of_two_moves_the_first_is_refused(before, app, redis):
    fill(before, 0, 3)
    old, new = buffer_of(before, "old").admin, buffer_of(app, "new").admin
    first = old.start_move()
    moving = old.next_move(first[1], largest_dead=0)
    second = old.start_move()
    assert second == (first[0], first[1] + 1)
    with pytest.raises(Stale):
        old.next_move(first[1], largest_dead=0)
    assert old.next_move(second[1], largest_dead=0) == moving
    assert new.receive(*second, moving)
    # The first one was stopped before this, and goes on now.
    with pytest.raises(Stale):
        new.receive(*first, moving)
    old.end_move(moving)
    assert not new.receive(*second, moving)
    old.end_move(moving)
    assert move(app).moved == 0
    assert stats(app).accepted == stats(app).ready.messages == 3
    assert keys_of(redis) == []


def test_the_end_of_an_earlier_move_ends_no_later_one(before, app, redis):
    old, new = buffer_of(before, "old").admin, buffer_of(app, "new").admin
    fill(before, 0, 3)
    old.mark()
    fill(before, 3, 4)
    origin, mover = old.start_move()
    first = old.next_move(mover, largest_dead=0)
    new.receive(origin, mover, first)
    old.end_move(first)
    second = old.next_move(mover, largest_dead=0)
    old.end_move(first)  # a mover that was stopped does it now
    assert old.next_move(mover, largest_dead=0) == second
    assert stats(before, "old").accepted == 4
    assert_accounted(redis, "old")
    assert move(app).moved == 4
    assert stats(app).accepted == 7


def test_what_holds_something_is_not_removed(before, app):
    old, new = buffer_of(before, "old"), buffer_of(app, "new").admin
    fill(before, 0, 3)
    assert not old.admin.remove()  # buffered
    (batch,) = old.claim(1)
    assert not old.admin.remove()  # in flight
    held = old.begin(batch.id, "t")
    old.retry(held, "own", 0.0, "503", "503", breaker=BREAKER)
    assert not old.admin.remove()  # retrying
    origin, mover = old.admin.start_move()
    for what in ("ready", "history", "totals"):
        moving = old.admin.next_move(mover, largest_dead=0)
        assert moving.what == what
        assert not old.admin.remove()  # set aside
        new.receive(origin, mover, moving)
        old.admin.end_move(moving)
        assert old.admin.remove() == (what == "totals")  # the totals


def test_a_number_that_is_given_again_to_another_batch_loses_nothing(before, app, redis):
    """After a failover to a replica that was behind, a source numbers its moves once more."""
    old, new = buffer_of(before, "old"), buffer_of(app, "new")
    for first in (0, 10, 20):
        fill(before, first, 10)
        old.admin.mark()
    origin, mover = old.admin.start_move()
    for _ in range(2):
        moving = old.admin.next_move(mover, largest_dead=0)
        assert new.admin.receive(origin, mover, moving)
        assert not new.admin.receive(origin, mover, moving), "it was stored before"
        old.admin.end_move(moving)
    redis.hset("{segment:old}:state", mapping={"mover": mover - 1, "moves": 1})
    fill(before, 30, 10)
    assert move(app).remaining == 0
    assert stats(app).ready.messages == 40
    assert_accounted(redis, "new")


def test_the_old_sources_states_are_not_the_new_ones(before, app, redis):
    """Where content was lost, by an eviction, states that are no totals may be wrong."""
    old = buffer_of(before, "old")
    fill(before, 0, 50)
    assert old.compress(str(old.admin.mark()))
    fill(before, 50, 50)
    assert old.compress(str(old.admin.mark()))
    origin, mover = old.admin.start_move()
    moving = old.admin.next_move(mover, largest_dead=0)
    buffer_of(app, "new").admin.receive(origin, mover, moving)
    old.admin.end_move(moving)
    size = sum(len(message(n)) + 1 for n in range(50, 100))
    assert stats(before, "old").saved_bytes == size - redis.strlen("{segment:old}:batch:2")
    both = stats(app).saved_bytes + stats(before, "old").saved_bytes
    redis.hincrby("{segment:old}:stats", "saved_bytes", 77)
    redis.hincrby("{segment:old}:stats", "ready", 7)
    assert move(app).moved == 50
    assert stats(app).saved_bytes == both
    assert stats(app).ready.messages == 100


def test_what_was_lost_of_batches_is_damaged_and_the_rest_moves(before, app, redis):
    old = buffer_of(before, "old")
    for first in (0, 10, 20, 30):
        fill(before, first, 10)
        old.admin.mark()
    redis.delete("{segment:old}:meta:1")
    redis.delete("{segment:old}:batch:2")
    redis.delete("{segment:old}:meta:3", "{segment:old}:batch:3")
    assert move(app).remaining == 0
    found = stats(app)
    assert (found.accepted, found.ready.messages, found.damaged) == (40, 30, 10)
    assert_accounted(redis, "new")
    assert keys_of(redis) == []


def test_a_source_may_be_moved_into_another_redis(before, app, redis, make_app):
    with EmbeddedRedis() as own:
        from celery_segment.operations.moving import Move, SourceMove

        other = make_app(broker_url=own.url, **AFTER)
        fill(before, 0, 30)
        made = SourceMove([Move(app, buffer_of(before, "old"), buffer_of(other, "new"))])
        assert made.run(0) == 0
        assert made.moved == stats(other).ready.messages == 30
        assert keys_of(redis) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("new", "new", "both names are 'new'"),
        ("old", "nowhere", "source 'nowhere' is not configured"),
        ("old", "off", "source 'off' is not enabled"),
    ],
)
def test_what_is_refused(make_app, old, new, said):
    app = make_app(segment_sources={"new": {}, "off": {"enabled": False}})
    with pytest.raises(ConfigurationError, match=said):
        rename(app, old, new)


def test_in_python(before, app):
    fill(before, 0, 3)
    assert Analytics("new", app=app).move_from("old", timeout=5) == 0
    assert stats(app).ready.messages == 3


def test_what_this_host_has_spilled_moves(make_app, redis, tmp_path):
    spill = {"segment_spill_path": str(tmp_path / "spill"), "segment_on_unavailable": "spill"}
    before, app = make_app(**BEFORE, **spill), make_app(**AFTER, **spill)
    from celery_segment.runtime import runtime_of

    runtime_of(before).spill.put("old", [message(n) for n in range(700)], {})
    assert runtime_of(app).spill.sources() == {"old": 700}
    made = move(app)
    assert (made.moved, made.remaining) == (700, 0)
    assert stats(app).accepted == 700
    assert runtime_of(app).spill.sources() == {}
    assert keys_of(redis) == []


@pytest.mark.parametrize("namespace", ["", "shop"])
def test_namespaces_are_kept(make_app, redis, namespace):
    conf = {"segment_namespace": namespace}
    app, before = make_app(**AFTER, **conf), make_app(**BEFORE, **conf)
    other = make_app(**BEFORE, segment_namespace="other")
    fill(before, 0, 3)
    fill(other, 3, 4)
    assert move(app).moved == 3
    assert stats(app).accepted == 3
    assert stats(other, "old").accepted == 4
    assert [key for key in redis.keys("{segment:*") if b"old" in key and b"other" not in key] == []
