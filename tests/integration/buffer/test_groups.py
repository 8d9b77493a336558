"""Dead letters are grouped by reason, type and event, and the groups' counts stay balanced."""

from __future__ import annotations

import json

import pytest

from batches import hold
from celery_segment.buffer import UNGROUPED, Grouped, bounds, kinds_of
from celery_segment.buffer.kinds import Kind
from support import allow, buffer_of

TAG = "{segment:default}"


def event(name, number=0, **more):
    return json.dumps({"messageId": f"m{number}", "type": "track", "event": name, **more}).encode()


def bury(buffer, *messages, reason="400 Bad Request", text=""):
    """Store messages as one batch that is given up; return its id."""
    buffer.append_many(messages)
    allow(buffer, 9)
    held = hold(buffer)
    grouped = Grouped(reason, kinds_of(held.body))
    buffer.bury(held, reason, text, "400", answered=True, grouped=grouped)
    return held.id


def groups(buffer):
    """Return the numbers of messages and letters of each group, by its reason and kind."""
    found = buffer.admin.dead_groups()
    assert sum(group.messages for group in found) == buffer.admin.snapshot().dead.messages
    return {(g.reason, g.kind): (g.messages, g.letters) for g in found}


def group_keys(redis):
    return {key.decode().removeprefix(f"{TAG}:") for key in redis.keys(f"{TAG}:dead:*")}


def older(redis, batch):
    """Make a dead letter as a release buried it which knew no groups."""
    kinds = redis.hget(f"{TAG}:meta:{batch}", "kinds").decode().split()
    for count, group in zip(kinds[1::3], kinds[2::3], strict=True):
        redis.zrem(f"{TAG}:dead:{group}", batch)
        redis.zincrby(f"{TAG}:grouped", -int(count), group)
        if not redis.exists(f"{TAG}:dead:{group}"):
            redis.hdel(f"{TAG}:groups", group)
            redis.zrem(f"{TAG}:grouped", group)
    redis.hdel(f"{TAG}:meta:{batch}", "kinds")
    redis.hincrby(f"{TAG}:groups", "letters", -1)


class TestKinds:
    def test_a_letter_is_in_a_group_for_each_kind_of_its_messages(self, buffer):
        many = bury(buffer, event("A"), event("B"), event("A"), b'{"type":"identify"}', text="no")
        bury(buffer, event("A"))
        bury(buffer, event("A"), reason="503 Service Unavailable; given up")
        assert groups(buffer) == {
            ("400 Bad Request", "track 'A'"): (3, 2),
            ("400 Bad Request", "track 'B'"): (1, 1),
            ("400 Bad Request", "identify"): (1, 1),
            ("503 Service Unavailable; given up", "track 'A'"): (1, 1),
        }
        letters = buffer.admin.dead_letters()
        assert [each.kinds for each in letters] == [
            "track 'A' and 2 more",
            "track 'A'",
            "track 'A'",
        ]
        assert [each.reason for each in letters][:2] == ["400 Bad Request: no", "400 Bad Request"]
        only_b = next(g for g in buffer.admin.dead_groups() if g.event == "B")
        assert [each.id for each in buffer.admin.dead_letters(group=only_b.id)] == [many]
        assert (only_b.oldest, only_b.youngest) == (letters[0].buried, letters[0].buried)

    def test_kinds_beyond_twenty_are_other_messages_of_the_same_reason(self, buffer, redis):
        batch = bury(buffer, *(event(f"E{n}", n) for n in range(25)), event("E3"))
        found = groups(buffer)
        assert len(found) == bounds.MOST_KINDS + 1
        assert found["400 Bad Request", "track 'E3'"] == (2, 1)
        assert found["400 Bad Request", "other messages"] == (5, 1)
        (letter,) = buffer.admin.dead_letters()
        assert letter.kinds == "track 'E3' and 20 more"
        assert len(group_keys(redis)) == bounds.MOST_KINDS + 1
        buffer.admin.replay([batch])
        assert (groups(buffer), group_keys(redis)) == ({}, set())

    def test_groups_beyond_the_most_are_one(self, buffer, redis, monkeypatch):
        monkeypatch.setattr(bounds, "MOST_GROUPS", 3)
        first, second, *_ = [bury(buffer, event(f"E{n}")) for n in range(6)]
        expected = {("400 Bad Request", f"track 'E{n}'"): (1, 1) for n in range(3)}
        others = ("other reasons", "other messages")
        assert groups(buffer) == {**expected, others: (3, 3)}
        found = {letter.kinds for letter in buffer.admin.dead_letters(group="others")}
        assert found == {"other messages"}
        # Where there are fewer, there is room for another.
        buffer.admin.purge([first, second])
        bury(buffer, event("E5"), event("E6"), event("E7"))
        found = groups(buffer)
        assert found.pop(others) == (5, 4)
        assert sorted(kind for _, kind in found) == ["track 'E2'", "track 'E5'"]
        assert len(group_keys(redis)) == 3

    def test_names_are_one_line_and_short(self, buffer):
        bury(buffer, event("x" * 500 + "\x1b[31m\u202e"), event("a\x1b[31m\nb"))
        names = sorted(group.event for group in buffer.admin.dead_groups())
        assert names == ["a\N{REPLACEMENT CHARACTER}[31m b", "x" * 99 + "…"]

    def test_what_cannot_be_read_is_other_messages(self, buffer):
        buffer.append_many([b'{"messageId":"m1"}', b'"text"'])
        held = hold(buffer)
        wrong = Grouped("400", {Kind("track", "A"): 99})
        buffer.bury(held, "400", answered=True, grouped=wrong)
        assert kinds_of(b"\xff") == kinds_of(None) == {}
        assert groups(buffer) == {("400", "other messages"): (2, 1)}


class TestTaken:
    """What takes a letter away, or some of its messages, counts it out of its groups."""

    @pytest.mark.parametrize("how", ["replay", "purge"])
    def test_a_letter(self, buffer, redis, how):
        first = bury(buffer, event("A"), event("B"))
        second = bury(buffer, event("A"))
        getattr(buffer.admin, how)([first])
        assert groups(buffer) == {("400 Bad Request", "track 'A'"): (1, 1)}
        getattr(buffer.admin, how)([second])
        assert groups(buffer) == {}
        assert not redis.exists(f"{TAG}:groups")
        if how == "replay":
            assert not redis.hexists(f"{TAG}:meta:{first}", "kinds")

    def test_messages_of_a_named_kind_and_of_others(self, buffer):
        names = [f"E{n}" for n in range(25)]
        batch = bury(buffer, *(event(name) for name in names), event("E1"))
        of_reason = "400 Bad Request"
        assert groups(buffer)[of_reason, "other messages"] == (5, 1)

        def forget(*theirs):
            found = buffer.admin.forget(batch, lambda m: json.loads(m)["event"] in theirs, "x")
            return found.count, groups(buffer)

        deleted, found = forget("E0", "E22")
        assert (deleted, len(found)) == (2, 20)
        assert found[of_reason, "track 'E1'"] == (2, 1)
        assert found[of_reason, "other messages"] == (4, 1)
        deleted, found = forget(*(each for each in names if each != "E24"))
        assert (deleted, found) == (23, {(of_reason, "other messages"): (1, 1)})
        assert forget("E24") == (1, {})

    def test_of_a_kind_of_which_nothing_is_left(self, buffer, redis):
        batch = bury(buffer, event("A", userId="p"), event("B", userId="u"))
        buffer.admin.forget(batch, lambda m: json.loads(m)["userId"] == "p", "forgotten")
        assert groups(buffer) == {("400 Bad Request", "track 'B'"): (1, 1)}
        assert len(group_keys(redis)) == 1
        (letter,) = buffer.admin.dead_letters()
        assert letter.kinds == "track 'B'"

    def test_another_letter_keeps_its_group(self, buffer):
        batch = bury(buffer, event("A"), event("B"))
        other = bury(buffer, event("A"))
        buffer.admin.forget(batch, lambda m: json.loads(m)["event"] == "A", "forgotten")
        (first, _) = sorted(buffer.admin.dead_groups(), key=lambda group: group.event)
        assert (first.event, first.messages, first.letters) == ("A", 1, 1)
        assert [each.id for each in buffer.admin.dead_letters(group=first.id)] == [other]

    def test_one_of_two_kinds_in_the_same_group(self, buffer, monkeypatch):
        monkeypatch.setattr(bounds, "MOST_GROUPS", 0)
        batch = bury(buffer, event("A"), event("B"), event("B"))
        assert groups(buffer) == {("other reasons", "other messages"): (3, 1)}
        buffer.admin.forget(batch, lambda m: json.loads(m)["event"] == "A", "forgotten")
        assert groups(buffer) == {("other reasons", "other messages"): (2, 1)}

    def test_of_kinds_that_are_not_those_of_the_record(self, buffer):
        """Another release may tell kinds apart in another way: the counts add up nevertheless."""
        buffer.append_many([event("A", userId="p")] * 3 + [event("B", userId="u")] * 2)
        held = hold(buffer)
        kinds = {Kind("track", "A"): 1, Kind("track", "C"): 2}
        buffer.bury(held, "400", answered=True, grouped=Grouped("400", kinds))
        deleted = buffer.admin.forget(held.id, lambda m: json.loads(m)["userId"] == "p", "x")
        assert deleted.count == 3
        assert groups(buffer) == {("400", "track 'C'"): (2, 1)}
        buffer.admin.forget(held.id, lambda _: True, "x")
        assert groups(buffer) == {}


class TestOlderReleases:
    """What was buried before there were groups is listed, and taken away, as ever."""

    def test_it_is_not_grouped(self, buffer, redis):
        first = bury(buffer, event("A"), event("A"))
        second = bury(buffer, event("A"))
        older(redis, first)
        assert groups(buffer) == {
            ("400 Bad Request", "track 'A'"): (1, 1),
            ("not grouped", "other messages"): (2, 1),
        }
        letters = {letter.id: letter.kinds for letter in buffer.admin.dead_letters()}
        assert letters == {first: "", second: "track 'A'"}
        buffer.admin.purge([second])
        assert groups(buffer) == {("not grouped", "other messages"): (2, 1)}
        (group,) = buffer.admin.dead_groups()
        assert (group.id, group.oldest) == (UNGROUPED, buffer.admin.last_buried())
        buffer.admin.replay([first])
        assert groups(buffer) == {}

    def test_one_is_taken_away_beside_others(self, buffer, redis):
        first, second, _ = [bury(buffer, event("A")) for _ in range(3)]
        older(redis, first)
        older(redis, second)
        buffer.admin.purge([first])
        assert groups(buffer) == {
            ("400 Bad Request", "track 'A'"): (1, 1),
            ("not grouped", "other messages"): (1, 1),
        }

    def test_its_messages_are_forgotten(self, buffer, redis):
        batch = bury(buffer, event("A", userId="p"), event("B", userId="u"))
        older(redis, batch)
        buffer.admin.forget(batch, lambda m: json.loads(m)["userId"] == "p", "forgotten")
        assert groups(buffer) == {("not grouped", "other messages"): (1, 1)}

    def test_it_takes_a_letter_away_and_leaves_its_groups(self, make_app, redis):
        buffer = buffer_of(make_app())
        gone = bury(buffer, event("A"))
        bury(buffer, event("A"))
        redis.zrem(f"{TAG}:dead", gone)
        assert buffer.admin.purge([gone]) == 0
        rest = [letter.id for letter in buffer.admin.dead_letters() if letter.id != gone]
        buffer.admin.purge(rest)
        assert buffer.admin.dead_groups() == []
        assert group_keys(redis) == set()
        assert not redis.exists(f"{TAG}:groups", f"{TAG}:grouped")


class TestLoss:
    """An eviction takes what is stored of groups: letters go on, and nothing is negative."""

    @pytest.mark.parametrize("key", ["groups", "grouped", "dead:{group}", "meta:{batch}"])
    def test_a_key(self, make_app, redis, key):
        buffer = buffer_of(make_app())
        batch = bury(buffer, event("A"), event("B"))
        other = bury(buffer, event("A"))
        group = next(g.id for g in buffer.admin.dead_groups() if g.event == "A")
        redis.delete(f"{TAG}:{key.format(group=group, batch=batch)}")
        bury(buffer, event("A"))
        assert all(g.messages >= 0 and g.letters > 0 for g in buffer.admin.dead_groups())
        buffer.admin.replay([batch])
        buffer.admin.purge([other])
        assert all(g.messages >= 0 and g.letters > 0 for g in buffer.admin.dead_groups())
        buffer.admin.purge([letter.id for letter in buffer.admin.dead_letters()])
        assert buffer.admin.dead_groups() == []
        assert not redis.exists(f"{TAG}:groups")
        assert group_keys(redis) == set()

    def test_a_title(self, buffer, redis):
        bury(buffer, event("A"))
        (group,) = buffer.admin.dead_groups()
        redis.hset(f"{TAG}:groups", group.id, b"\xff{")
        assert groups(buffer) == {("", "other messages"): (1, 1)}
        assert buffer.admin.dead_letters()[0].kinds == "other messages"


class TestPages:
    @pytest.mark.parametrize("limit", [1, 2, 5, 11, 12])
    @pytest.mark.parametrize("newest_first", [False, True])
    def test_of_a_group(self, buffer, redis, limit, newest_first):
        mine = [bury(buffer, event("A"), event(f"E{n}")) for n in range(11)]
        bury(buffer, event("B"))
        group = next(g.id for g in buffer.admin.dead_groups() if g.event == "A")
        for place, batch in enumerate(mine):  # some of the same time
            redis.zadd(f"{TAG}:dead", {batch: 5_000 + place // 4})
            redis.zadd(f"{TAG}:dead:{group}", {batch: 5_000 + place // 4})
        found, last = [], None
        about = {"group": group, "limit": limit, "newest_first": newest_first}
        while page := buffer.admin.dead_letters(last, **about):
            assert len(page) <= limit
            found += [letter.id for letter in page]
            last = page[-1]
        expected = sorted(mine, key=lambda i: (mine.index(i) // 4, i.encode()))
        assert found == (expected[::-1] if newest_first else expected)
        two = buffer.admin.dead_letters(since=5.001, until=5.002, **{**about, "limit": 99})
        assert {letter.id for letter in two} == {*mine[4:8]}
        assert buffer.admin.dead_letters(group="unknown") == []
