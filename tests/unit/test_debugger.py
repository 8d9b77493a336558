"""What the debugger keeps and finds, its failures, and how it names keys."""

from __future__ import annotations

import functools
import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from celery_segment.errors import ValidationError
from celery_segment.web.debugger.failures import KINDS, MAX_FAILURES, Failures, read_failure
from celery_segment.web.debugger.keys import KeyNames
from celery_segment.web.debugger.planned import plan_check
from celery_segment.web.debugger.records import LONGEST
from celery_segment.web.debugger.search import Filter, Search, read_filter
from celery_segment.web.debugger.store import Store
from exchanges import KEY, exchange
from posting import message

PAGE = {"type": "page", "messageId": "b", "userId": "u", "name": "N"}


@pytest.fixture
def store():
    return Store(KeyNames({KEY: "default"}))


def numbers(messages):
    return [message.number for message in messages]


def kept(store):
    return numbers(store.messages_after(0))


class TestStore:
    def test_keeps_messages_and_requests_in_order(self, store):
        before = time.time()
        store.add(*exchange(message("a"), PAGE))
        store.add(*exchange(message("c", userId=None, anonymousId="x"), retry_count=2))
        a, b, c = store.messages_after(0)
        assert (a.number, a.type, a.name, a.user_id, a.source) == (1, "track", "E", "u", "default")
        assert before <= a.at <= time.time()
        assert json.loads(b.raw) == PAGE
        assert (b.name, c.user_id, c.anonymous_id, c.requests) == ("N", "", "x", (2,))
        first, second = store.requests_after(0)
        assert (list(first.messages), list(second.messages)) == ([1, 2], [3])
        assert (second.retry_count, second.status, second.path) == (2, 200, "/v1/***/batch")
        assert first.headers == {"User-Agent": "test"}
        assert store.requests(None, 1) == [second]
        assert store.requests(second.number, 5) == [first]
        assert store.count == 3

    def test_a_retry_is_the_same_message(self, store):
        store.add(*exchange(message("a"), status=503))
        (only,) = store.messages_after(0)
        assert (only.status, only.accepted, only.arrivals) == (503, 0, 1)
        store.add(*exchange(message("a")))
        store.add(*exchange(message("a")))
        assert store.messages_after(0) == [only]
        assert (only.status, only.accepted, only.arrivals) == (200, 2, 3)
        assert only.requests == (1, 2, 3)
        totals = store.totals
        assert (totals.requests, totals.accepted, totals.duplicates) == (3, 2, 1)

    def test_of_many_retries_the_first_and_the_last_are_named(self, store):
        for _ in range(15):
            store.add(*exchange(message("a"), status=503))
        (only,) = store.messages_after(0)
        assert only.requests == (1, *range(7, 16))
        assert only.arrivals == 15

    def test_another_message_with_the_same_id(self, store):
        store.add(*exchange(message("a")))
        store.add(*exchange(message("a", event="Other")))
        store.add(*exchange(message("a"), key="another"))
        first, second, elsewhere = store.messages_after(0)
        assert first.violations == elsewhere.violations == ()
        ((path, text),) = second.violations
        assert (path, text) == ("messageId", "message 1 had it before: Segment drops one of them")

    def test_messages_without_an_id_are_all_different(self, store):
        store.add(*exchange({"type": "track"}, {"type": "track"}))
        assert store.count == 2

    @pytest.mark.parametrize("bound", [{"max_messages": 10}, {"max_bytes": 6_000}])
    def test_the_oldest_go(self, bound):
        store = Store(KeyNames({}), **bound)
        for n in range(100):
            store.add(*exchange(message(n, event=f"E{n}")))
        assert 5 < store.count <= 10
        assert kept(store) == list(range(101 - store.count, 101))
        assert store.message(1) is None
        assert store.message(100).name == "E99"
        assert store.message(101) is None
        assert len(store.names(1_000)) == store.count
        # An id that is forgotten is a new one.
        store.add(*exchange(message(0, event="E0")))
        assert kept(store)[-1] == 101

    def test_a_message_above_the_bound_is_kept_alone(self):
        store = Store(KeyNames({}), max_bytes=1_000)
        store.add(*exchange(message("a"), message("b", pad="x" * 2_000)))
        assert kept(store) == [2]

    def test_requests_are_bounded_too(self):
        store = Store(KeyNames({}), max_bytes=100_000)
        for n in range(100):
            store.add(*exchange(message(n), status=503))
        assert len(store.requests_after(0)) < 10
        assert store.request(1) is None
        assert store.request(100).status == 503

    def test_is_cleared_and_goes_on_counting(self, store):
        store.add(*exchange(message("a")))
        assert store.clear() == 1
        assert (store.count, kept(store), store.requests_after(0)) == (0, [], [])
        assert (store.names(9), store.sources()) == ([], [])
        store.add(*exchange(message("a")))
        assert kept(store) == [2]
        assert store.request(2).number == 2

    def test_keeps_no_write_key(self, store):
        clients = message("a", writeKey=KEY)
        store.add(*exchange(clients))
        (only,) = store.messages_after(0)
        assert json.loads(only.raw) == message("a")
        assert KEY not in repr(store.requests_after(0)) + repr(only) + repr(only.raw)

    def test_wakes_who_waits(self, store):
        version = store.version
        store.wait(version, 0.01)
        assert store.version == version
        thread = threading.Thread(target=store.wait, args=(version, 30))
        thread.start()
        store.add(*exchange(message("a")))
        thread.join(5)
        assert not thread.is_alive()


class TestSearch:
    @pytest.fixture
    def search(self, store):
        store.add(
            *exchange(
                message("1", event="Order Completed", properties={"Id": 'A "quoted" 50314B8E'}),
                message("2", event="Order Cancelled", userId="someone"),
                message("3", type="identify", event=None, traits={"name": "Zoë"}),
                message("4", event="a*b?[c]", anonymousId="anonymous"),
            )
        )
        store.add(*exchange(message("5", event="Order"), key="other", status=503))
        store.add(*exchange(message("6", userId=None), violations=["late"]))
        return Search(store)

    @pytest.mark.parametrize(
        ("conditions", "expected"),
        [
            ({}, [1, 2, 3, 4, 5, 6]),
            ({"type": "identify"}, [3]),
            ({"event": "Order"}, [5]),
            ({"event": "Order*"}, [1, 2, 5]),
            ({"event": "*completed"}, []),
            ({"event": "a*b?[c]"}, [4]),
            ({"event": "*?*"}, [4]),
            ({"event": "*[c]"}, [4]),
            ({"user": "someone"}, [2]),
            ({"user": "anonymous"}, [4]),
            ({"source": "default"}, [1, 2, 3, 4, 6]),
            ({"source": "unknown key"}, [5]),
            ({"text": "50314b8e"}, [1]),
            ({"text": 'a "QUOTED"'}, [1]),
            ({"text": '"properties":{'}, [1]),
            ({"text": "Zoë"}, [3]),
            ({"message_id": "4"}, [4]),
            ({"violations": True}, [6]),
            ({"accepted": True}, [1, 2, 3, 4, 6]),
            ({"accepted": False}, [5]),
            ({"event": "Order*", "accepted": True}, [1, 2]),
        ],
    )
    def test_finds_by(self, search, conditions, expected):
        wanted = Filter(**conditions)
        for _ in range(2):  # the second time from memory
            found = search.oldest(wanted)
            assert numbers(found.messages) == expected
            assert (found.total, found.more) == (len(expected), False)

    def test_escapes_of_json_are_found_as_well(self, store):
        request, received = exchange(message("a", by="Zoë"))
        escaped = json.dumps(message("a", by="Zoë")).encode()
        store.add(_with_raw(request, escaped), received)
        assert numbers(Search(store).oldest(Filter(text="zoë".upper())).messages) == []
        assert numbers(Search(store).oldest(Filter(text="Zoë")).messages) == [1]

    def test_gives_pages(self, search):
        newest = search.newest(Filter(), limit=4)
        assert (numbers(newest.messages), newest.total, newest.more) == ([6, 5, 4, 3], 6, True)
        older = search.newest(Filter(), before=3, limit=4)
        assert (numbers(older.messages), older.more) == ([2, 1], False)
        oldest = search.oldest(Filter(event="Order*"), after=1, limit=1)
        assert (numbers(oldest.messages), oldest.total, oldest.more) == ([2], 3, True)

    def test_what_changes_is_looked_at_anew(self, search, store):
        accepted = Filter(event="Order", accepted=True)
        assert search.oldest(accepted).total == 0
        store.add(*exchange(message("5", event="Order"), key="other"))
        assert numbers(search.oldest(accepted).messages) == [5]

    def test_remembers_no_more_than_is_kept(self):
        store = Store(KeyNames({}), max_messages=5)
        search = Search(store)
        for n in range(30):
            store.add(*exchange(message(n, event="odd" if n % 2 else "even")))
            found = search.oldest(Filter(event="odd"))
            assert all(m.name == "odd" for m in found.messages)
            assert numbers(found.messages) == [m for m in kept(store) if m % 2 == 0]
        store.clear()
        assert search.oldest(Filter(event="odd")).total == 0
        store.add(*exchange(message(1, event="odd")))
        assert numbers(search.oldest(Filter(event="odd")).messages) == [31]

    def test_remembers_the_last_filters_alone(self, store):
        search = Search(store)
        for n in range(100):
            search.oldest(Filter(event=f"E{n}"))
        assert len(search._known) == 32

    def test_a_name_longer_than_what_is_kept_of_it(self, store):
        store.add(*exchange(message("a", event="x" * (LONGEST + 50))))
        assert Search(store).oldest(Filter(event="x" * (LONGEST + 50))).total == 1

    def test_a_filter_of_an_address(self):
        given = {"event": "E", "violations": "1", "accepted": "no"}
        assert read_filter(given.get) == Filter(event="E", violations=True, accepted=False)
        with pytest.raises(ValidationError, match="accepted: must be one of 1, true, yes, 0"):
            read_filter({"accepted": "perhaps"}.get)


class TestFailures:
    def request(self, *events):
        return exchange(*(message(n, event=event) for n, event in enumerate(events)))[0]

    def test_none_are_on(self):
        assert Failures()(self.request("E")) is None

    @pytest.mark.parametrize("kind", KINDS)
    def test_each_kind_has_its_reply(self, kind):
        failures = Failures()
        failure = failures.add(read_failure({"kind": kind}))
        reply = failures(self.request("E"))
        assert reply.name == kind
        assert reply.accepts == (kind == "slow")
        assert failure.text

    def test_as_it_is_asked(self):
        failures = Failures()
        failures.add(read_failure({"kind": "rate-limit", "seconds": 7, "requests": 1}))
        failures.add(read_failure({"kind": "error", "status": 500, "requests": 1}))
        failures.add(read_failure({"kind": "slow", "seconds": 0.5}))
        limited, failed, slow, still = (failures(self.request("E")) for _ in range(4))
        assert (limited.code, limited.pause) == (429, 7)
        assert failed.code == 500
        assert slow.delay == still.delay == 0.5
        assert [failure.kind for failure in failures.all()] == ["slow"]

    def test_for_an_event(self):
        failures = Failures()
        failures.add(read_failure({"kind": "reject", "event": "Bad", "requests": 1}))
        assert failures(self.request("Good", "Fine")) is None
        assert failures(self.request("Good", "Bad")).code == 400
        assert failures(self.request("Good", "Bad")) is None

    def test_are_switched_off(self):
        failures = Failures()
        one, two = (failures.add(read_failure({"kind": "close"})) for _ in range(2))
        assert failures.remove(one.number)
        assert not failures.remove(one.number)
        assert failures.all() == [two]
        assert failures.clear() == 1
        assert failures(self.request("E")) is None

    def test_are_bounded(self):
        failures = Failures()
        for _ in range(MAX_FAILURES):
            failures.add(read_failure({"kind": "close"}))
        with pytest.raises(ValidationError, match="20 failures are on: remove some first"):
            failures.add(read_failure({"kind": "close"}))

    @pytest.mark.parametrize(
        ("values", "text"),
        [
            ({}, "kind: must be one of rate-limit, error, slow, hang, close, reject"),
            ({"kind": ["error"]}, "kind: must be one of"),
            ({"kind": "error", "codes": 1}, "codes: is unknown: see kind, seconds, status, event"),
            ({"kind": "error", "status": 200}, "status: must be a number from 300 to 599"),
            ({"kind": "error", "status": "500"}, "status: must be a number from 300 to 599"),
            ({"kind": "error", "seconds": 1}, "seconds: this kind of failure has none"),
            ({"kind": "slow", "seconds": 301}, "seconds: must be a number from 0 to 300"),
            ({"kind": "slow", "seconds": float("nan")}, "seconds: must be a number from 0 to 300"),
            ({"kind": "close", "requests": 0}, "requests: must be a whole number from 1 to"),
            ({"kind": "close", "requests": True}, "requests: must be a whole number"),
            ({"kind": "close", "event": 1}, "event: must be the name of an event, a string"),
        ],
    )  # fmt: skip
    def test_refuse_what_they_do_not_know(self, values, text):
        with pytest.raises(ValidationError) as error:
            read_failure(values)
        assert str(error.value).startswith(text)


class TestKeyNames:
    def test_of_sources_that_are_known(self):
        names = KeyNames({"one": "default", "two": "marketing"})
        assert [names(key) for key in ("one", "two", "three", "", None)] == [
            *("default", "marketing", "unknown key", "no key", "no key"),
        ]

    def test_of_none_that_are_known(self):
        names = KeyNames(None)
        assert [names(key) for key in ("b", "a", "b", None)] == [
            "key 1",
            "key 2",
            "key 1",
            "no key",
        ]
        for n in range(200):
            names(f"key of {n}")
        assert names("another") == "unknown key"
        assert names("b") == "key 1"

    def test_no_key_is_kept(self):
        names = KeyNames({KEY: "default"})
        names("an0th3r")
        assert KEY not in repr(vars(names))
        assert "an0th3r" not in repr(vars(names))


def _with_raw(request, raw):
    return replace(request, raw_messages=(raw,))


class TestPlans:
    """What is no message, or none that a plan can judge, is left to Segment's own rules."""

    @pytest.fixture
    def check(self):
        return plan_check(str(Path(__file__).parents[1] / "plans" / "shapes.json"))

    @pytest.mark.parametrize(
        "odd",
        [
            *({}, {"type": 1}, {"type": ["track"]}, {"type": "alias"}, {"type": "none"}),
            *({"type": "track", "event": 1}, {"type": "track", "event": ["Own Handler"]}),
            {"type": "track", "event": "Own Handler", "context": "no object"},
        ],
    )
    def test_is_not_judged(self, check, odd):
        assert list(check(odd, 0)) == []

    def test_what_is_nested_too_deeply(self, check):
        deep = functools.reduce(lambda inner, _: {"a": inner}, range(900), {})
        found = check({"type": "track", "event": "Own Handler", "properties": deep}, 0)
        assert [each.text for each in found] != []

    def test_is_kept_with_what_segment_says(self, check):
        store = Store(KeyNames({KEY: "default"}), check_of={"default": check}.get)
        store.add(*exchange(message("a", event="Own Handler", properties={"call number": "x"})))
        (found,) = store.messages_after(0)
        assert (
            "properties.call number",
            "must match the pattern Folio|Quarto (tracking plan)",
        ) in [tuple(each) for each in found.violations]
