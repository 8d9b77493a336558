"""Dead letters by group and by page, as their operator's programs see them."""

from __future__ import annotations

import io
import json
from collections import Counter

import pytest

from celery_segment import Analytics, identify, track
from celery_segment.buffer import UNGROUPED
from celery_segment.delivery import settle
from celery_segment.delivery.dead_log import DeadLog
from celery_segment.operations import dead_pages
from support import buffer_of

TAG = "{segment:default}"


@pytest.fixture
def app(make_app):
    return make_app(segment_max_batch_messages=1, segment_max_dead_bytes=10**12)


@pytest.fixture
def letters(app):
    return Analytics(app=app).dead_letters


@pytest.fixture
def refused(app, server, monkeypatch):
    """Give up what Segment refuses: four events of one name, two of another, an identify."""
    monkeypatch.setattr(settle, "dead_log", DeadLog())  # whose rest is not logged at the end
    server.fail_messages(lambda message: message.get("event") != "Good")
    with Analytics(app=app).batch():
        for number in range(4):
            track("u", "Order Completed", {"number": number})
        track("u", "Good")
        track("u", "Bad")
        track("u", "Bad")
        identify("u")
    assert Analytics(app=app).deliver(timeout=60) == 0
    assert len(server.received) == 1
    server.restore()


def by_kind(letters):
    return {group.kind: group for group in letters.groups()}


def events(letters, chosen):
    return [message.get("event") for each in chosen for message in letters.messages(each.id)]


@pytest.mark.usefixtures("refused")
class TestGroups:
    def test_those_of_the_most_messages_come_first(self, letters):
        assert [(g.reason, g.kind, g.messages, g.letters) for g in letters.groups()] == [
            ("400 Bad Request", "track 'Order Completed'", 4, 4),
            ("400 Bad Request", "track 'Bad'", 2, 2),
            ("400 Bad Request", "identify", 1, 1),
        ]
        first = letters.groups()[0]
        times = [letter.buried for letter in letters.select(group=first.id)]
        assert (first.oldest, first.youngest) == (min(times), max(times))

    def test_one_is_selected(self, letters):
        bad = by_kind(letters)["track 'Bad'"]
        assert events(letters, letters.select(group=bad.id)) == ["Bad", "Bad"]
        assert list(letters.select(group=bad.id, reason="503")) == []
        assert list(letters.select(group=bad.id, until=bad.oldest)) == []
        assert list(letters.select(group="unknown")) == []

    def test_one_is_replayed_and_delivered(self, app, letters, server):
        group = by_kind(letters)["track 'Order Completed'"]
        assert letters.replay(group=group.id) == 4
        assert Analytics(app=app).deliver(timeout=60) == 0
        received = Counter(message["event"] for message in server.messages)
        assert received == {"Good": 1, "Order Completed": 4}
        assert sorted(by_kind(letters)) == ["identify", "track 'Bad'"]

    def test_one_is_purged(self, letters):
        group = by_kind(letters)["track 'Bad'"]
        assert letters.purge(group=group.id) == 2
        assert letters.purge(group=group.id) == 0
        assert sorted(by_kind(letters)) == ["identify", "track 'Order Completed'"]

    def test_one_is_exported(self, letters, tmp_path):
        group = by_kind(letters)["track 'Bad'"]
        stream = io.BytesIO()
        assert letters.export(stream, group=group.id).messages == 2
        done = letters.export(tmp_path / "bad.ndjson", group=group.id, purge=True)
        assert done == (2, 2)
        assert (tmp_path / "bad.ndjson").read_bytes() == stream.getvalue()
        found = [json.loads(line)["message"]["event"] for line in stream.getvalue().splitlines()]
        assert found == ["Bad", "Bad"]

    def test_what_was_given_up_before_there_were_groups(self, letters, redis):
        bad = by_kind(letters)["track 'Bad'"]
        old = [letter.id for letter in letters.select(group=bad.id)]
        for batch in old:
            redis.hdel(f"{TAG}:meta:{batch}", "kinds")
        redis.delete(f"{TAG}:dead:{bad.id}")
        redis.hdel(f"{TAG}:groups", bad.id)
        redis.zrem(f"{TAG}:grouped", bad.id)
        redis.hincrby(f"{TAG}:groups", "letters", -2)
        found = letters.groups()
        assert [(g.id, g.reason, g.messages, g.letters) for g in found[1:2]] == [
            (UNGROUPED, "not grouped", 2, 2)
        ]
        assert [letter.id for letter in letters.select(group=UNGROUPED)] == old
        page = letters.page(group=UNGROUPED)
        assert ([letter.id for letter in page.letters], page.next) == (old[::-1], None)
        assert letters.replay(group=UNGROUPED) == 2
        assert len(letters.groups()) == 2

    @pytest.mark.parametrize("what", ["select", "replay", "purge", "page"])
    def test_an_empty_id_chooses_nothing(self, letters, what):
        with pytest.raises(ValueError, match="the id of a group, or None"):
            for _ in getattr(letters, what)(group=""):
                pass
        assert len(list(letters)) == 7

    def test_ids_and_a_group_are_refused(self, letters):
        with pytest.raises(ValueError, match="reason, since, until and group, not both"):
            letters.purge(["1"], group="x")


class TestPages:
    @pytest.fixture
    def ids(self, app):
        """Give up thirty batches for two reasons."""
        with Analytics(app=app).batch():
            for number in range(30):
                track("u", f"E{number % 2}", {"number": number})
        buffer, buried = buffer_of(app), []
        while batches := buffer.claim(50):
            for batch in batches:
                lease = buffer.begin(batch.id, "token")
                reason = "503" if len(buried) % 10 == 0 else "400"
                buffer.bury(lease, reason, answered=True)
                buried.append(batch.id)
        found = [letter.id for letter in Analytics(app=app).dead_letters]
        assert sorted(found) == sorted(buried)
        return found

    @staticmethod
    def turned(letters, **how):
        found, after, pages = [], None, 0
        while True:
            page = letters.page(after, **how)
            found += [letter.id for letter in page.letters]
            after, pages = page.next, pages + 1
            if after is None:
                return found, pages

    @pytest.mark.parametrize(("limit", "pages"), [(1, 30), (7, 5), (29, 2), (30, 1), (50, 1)])
    def test_they_join(self, letters, ids, limit, pages):
        assert self.turned(letters, limit=limit) == (ids[::-1], pages)
        assert self.turned(letters, limit=limit, newest_first=False) == (ids, pages)

    @pytest.mark.parametrize("size", [1, 3, 100])
    def test_of_a_reason_and_a_group(self, letters, ids, monkeypatch, size):
        monkeypatch.setattr(dead_pages, "PAGE", size)
        rare = next(group for group in letters.groups() if group.reason == "503")
        expected = [letter.id for letter in letters.select(reason="503")][::-1]
        assert len(expected) == rare.letters == 3
        assert self.turned(letters, limit=2, reason="503") == (expected, 2)
        assert self.turned(letters, limit=2, group=rare.id) == (expected, 2)
        assert self.turned(letters, limit=2, group=rare.id, reason="400") == ([], 1)
        assert set(ids) > set(expected)

    def test_times_bound_it(self, letters, ids, redis):
        for number, batch in enumerate(ids):
            redis.zadd(f"{TAG}:dead", {batch: 1_000 * (number // 4)})
        ordered = [letter.id for letter in letters.select(since=2.0, until=4.0)]
        assert sorted(ordered) == sorted(ids[8:16])
        assert self.turned(letters, limit=3, since=2.0, until=4.0) == (ordered[::-1], 3)

    def test_the_work_for_one_is_bounded(self, letters, ids, monkeypatch):
        monkeypatch.setattr(dead_pages, "PAGE", 5)
        monkeypatch.setattr(dead_pages, "LOOKED_AT", 10)
        assert self.turned(letters, reason="nothing has it") == ([], 4)
        found, pages = self.turned(letters, reason="503")
        assert (len(found), pages) == (3, 4)
        assert len(ids) == 30

    def test_none_is_passed_over_when_those_of_the_last_are_replayed(self, letters, ids):
        first = letters.page(limit=10)
        letters.replay([letter.id for letter in first.letters])
        assert [letter.id for letter in letters.page(first.next).letters] == ids[19::-1]

    def test_without_any(self, letters):
        assert letters.page() == ([], None)
        assert letters.groups() == []

    @pytest.mark.parametrize("after", ["", "x", "1-", "-1", "x-1", "9" * 40 + "-1", "1.5-1", "²-1"])
    def test_what_is_no_next_of_a_page_is_refused(self, letters, after):
        with pytest.raises(ValueError, match="after must be the `next` of a page"):
            letters.page(after)

    @pytest.mark.parametrize("limit", [0, -1])
    def test_a_limit_below_one_is_refused(self, letters, limit):
        with pytest.raises(ValueError, match="limit must be 1 or more"):
            letters.page(limit=limit)


def test_while_calls_are_captured_there_are_none(segment_outbox, app):
    letters = Analytics(app=app).dead_letters
    assert (letters.groups(), letters.page()) == ([], ([], None))
    assert len(segment_outbox) == 0
