"""What a call takes of its request and its visitor, alike under every web framework."""

from __future__ import annotations

import logging
from uuid import UUID

import pytest

from celery_segment import Analytics, ValidationError, identify, track
from celery_segment.producer import places
from celery_segment.signals import messages_dropped
from celery_segment.testing import EmbeddedRedis
from sites import ANONYMOUS
from support import drops, stored


def look():
    track.delay(event="Item Viewed")


def quiet():
    pass


def thrice():
    for event in ("A", "B", "C"):
        track.delay(event=event)


def about_another():
    track.delay("another", "Was Banned")


def stream():
    def parts():
        yield b"one "
        track.delay("u", "While")
        yield b"two"

    track.delay("u", "Before")
    return parts()


class TestContext:
    def test_a_call_has_the_requests(self, make_app, site, segment_outbox):
        make_app(segment_trusted_proxies=1)
        site.ask(look, "/app/a%20b/ü/?q=red%20blue", x_forwarded_for="6.6.6.6, 192.0.2.7")
        (message,) = segment_outbox
        assert message["anonymousId"] == ANONYMOUS
        assert "userId" not in message
        assert message["context"].pop("library")
        assert message["context"] == {
            "ip": "192.0.2.7",
            "userAgent": "Mozilla/5.0",
            "locale": "de-CH",
            "page": {
                "url": "http://shop.example/app/a%20b/%C3%BC/?q=red%20blue",
                "path": "/app/a%20b/%C3%BC/",
                "search": "?q=red%20blue",
                "referrer": "https://shop.example/",
            },
        }

    def test_over_https(self, make_app, site, segment_outbox):
        make_app()
        site.ask(look, "/items/", secure=True)
        assert segment_outbox[0]["context"]["page"]["url"] == "https://shop.example/items/"

    @pytest.mark.parametrize(
        ("proxies", "ip"),
        [(0, "127.0.0.1"), (1, "198.51.100.2"), (2, "198.51.100.1"), (4, "127.0.0.1")],
    )
    def test_as_many_proxies_are_trusted_as_are_set(
        self, make_app, site, segment_outbox, proxies, ip
    ):
        make_app(segment_trusted_proxies=proxies)
        site.ask(look, x_forwarded_for="203.0.113.9, 198.51.100.1, 198.51.100.2")
        assert segment_outbox[0]["context"]["ip"] == ip

    def test_nothing_is_left_after_the_request(self, make_app, site, segment_outbox):
        make_app()
        site.ask(look)
        segment_outbox.clear()
        track.delay("u", "Outside")
        with pytest.raises(ValidationError):
            track.delay(event="Outside")
        assert list(segment_outbox[0]["context"]) == ["library"]


class TestVisitor:
    def test_the_cookie_of_an_older_analytics_js(self, make_app, site, segment_outbox):
        make_app()
        site.set_cookie(f"%22{ANONYMOUS}%22")
        site.ask(look)
        assert segment_outbox[0]["anonymousId"] == ANONYMOUS

    def test_who_is_logged_in(self, make_app, site, segment_outbox):
        make_app()
        user = site.log_in()
        site.ask(look, "/items/")
        (message,) = segment_outbox
        assert (message["userId"], message["anonymousId"]) == (user, ANONYMOUS)
        assert message["context"]["page"]["path"] == "/items/"

    def test_who_is_logged_in_by_name(self, make_app, site, segment_outbox):
        make_app()
        user = site.log_in()
        site.ask(lambda: track.delay(user, "Item Viewed"))
        (message,) = segment_outbox
        assert (message["userId"], message["anonymousId"]) == (user, ANONYMOUS)
        assert message["context"]["ip"] == "127.0.0.1"

    def test_a_call_about_another_user_has_nothing_of_the_requests(
        self, make_app, site, segment_outbox
    ):
        make_app()
        site.log_in()
        site.ask(about_another)
        (message,) = segment_outbox
        assert message["userId"] == "another"
        assert "anonymousId" not in message
        assert list(message["context"]) == ["library"]

    def test_a_call_of_a_visitor_without_an_identity_is_dropped_and_counted(
        self, make_app, site, redis, caplog, monkeypatch
    ):
        monkeypatch.setattr(places, "_logged", set())
        caplog.set_level("INFO", "celery_segment")
        make_app()
        site.set_cookie(None)
        dropped = []

        def hear(sender, reason, messages, **_):
            dropped.append((sender, reason, messages))

        def view():
            for _ in range(2):
                result = track.delay(event="Item Viewed")
                assert (result.state, result.get(timeout=5)) == ("IGNORED", None)
            assert track(event="Item Viewed") == ""

        messages_dropped.connect(hear)
        assert site.ask(view).body == b"done"
        assert stored(redis) == []
        assert Analytics().stats().dropped == drops(unidentified=3)
        assert dropped == [("default", "unidentified", 1)] * 3
        texts = [r.getMessage() for r in caplog.records if "is dropped" in r.getMessage()]
        assert len(texts) == 2
        for text in texts:
            assert text.startswith(f"track at {__file__}:")
            assert text.endswith("the visitor has no id: see segment_set_anonymous_id")

    def test_other_mistakes_of_a_view_are_raised_or_logged(self, make_app, site, redis):
        def view():
            track.delay("u")

        make_app()
        with pytest.raises(ValidationError, match="event: is required"):
            site.ask(view)
        make_app(segment_on_invalid="log")
        assert site.ask(view).body == b"done"
        assert stored(redis) == []
        assert Analytics().stats().dropped == drops(invalid=1)


WAYS = {
    "delay": lambda: track.delay(event="E"),
    "direct call": lambda: track(event="E"),
    "apply_async": lambda: track.apply_async((), {"event": "E"}),
    "task id": lambda: track.apply_async((), {"event": "E"}, task_id="mine"),
    "signature": lambda: track.s(event="E").delay(),
    "apply": lambda: track.apply((), {"event": "E"}),
    "bound": lambda: Analytics().track.delay(event="E"),
}


@pytest.mark.parametrize("way", WAYS)
def test_each_way_of_calling_takes_the_visitor(make_app, site, redis, way):
    make_app(segment_context={"ip": "default", "os": "default"})
    user = site.log_in()

    def view():
        WAYS[way]()

    site.ask(view, "/items/")
    (message,) = stored(redis)
    assert (message["userId"], message["anonymousId"]) == (user, ANONYMOUS)
    del message["context"]["library"]
    assert message["context"] == {
        "ip": "127.0.0.1",
        "os": "default",
        "userAgent": "Mozilla/5.0",
        "locale": "de-CH",
        "page": {
            "url": "http://shop.example/items/",
            "path": "/items/",
            "referrer": "https://shop.example/",
        },
    }


class TestNewVisitors:
    @pytest.fixture
    def site(self, site, make_app):
        make_app(segment_set_anonymous_id=True)
        site.set_cookie(None)
        return site

    def test_a_visitor_keeps_a_new_id(self, site, segment_outbox):
        first, second = site.ask(look), site.ask(look)
        cookie = first.cookies["ajs_anonymous_id"]
        assert str(UUID(cookie.value)) == cookie.value
        assert [m["anonymousId"] for m in segment_outbox] == [cookie.value] * 2
        assert (cookie["max-age"], cookie["path"], cookie["samesite"]) == ("31536000", "/", "Lax")
        assert not cookie["secure"]
        assert not cookie["httponly"]
        # A cache may not give it to others.
        assert set(first.varies) == {"cookie"}
        assert not second.cookies

    def test_all_calls_of_a_request_have_it(self, site, segment_outbox):
        answer = site.ask(thrice)
        assert len(segment_outbox) == 3
        (value,) = {m["anonymousId"] for m in segment_outbox}
        assert answer.cookies["ajs_anonymous_id"].value == value

    def test_who_has_one_or_needs_none_gets_none(self, site, segment_outbox):
        assert not site.ask(quiet).header("set-cookie")
        assert not site.ask(about_another).header("set-cookie")
        assert not site.ask(stream).header("set-cookie")
        site.set_cookie(ANONYMOUS)
        assert not site.ask(look).header("set-cookie")
        segment_outbox.assert_tracked("Item Viewed", anonymous_id=ANONYMOUS)

    def test_over_https_alone_where_it_was_set_so(self, site, segment_outbox):
        answer, again = site.ask(look, secure=True), site.ask(look, secure=True)
        assert answer.cookies["ajs_anonymous_id"]["secure"]
        assert not again.cookies
        value = answer.cookies["ajs_anonymous_id"].value
        assert [m["anonymousId"] for m in segment_outbox] == [value] * 2

    def test_who_is_logged_in_gets_one_too(self, site, segment_outbox):
        user = site.log_in()
        value = site.ask(look).cookies["ajs_anonymous_id"].value
        segment_outbox.assert_tracked("Item Viewed", user_id=user, anonymous_id=value)


class TestBatch:
    def test_a_requests_calls_are_one_round_trip(self, site, commands):
        site.ask(thrice)
        assert commands() == (3, 1)
        site.ask(quiet)
        assert commands() == (0, 0)

    def test_each_call_keeps_its_own_visitor(self, site, commands, redis):
        site.log_in()

        def view():
            track.delay(event="mine")
            identify.delay("another", {})

        site.ask(view)
        assert commands() == (2, 1)
        mine, others = stored(redis)[-2:]
        assert mine["context"]["ip"] == "127.0.0.1"
        assert list(others["context"]) == ["library"]

    def test_what_was_tracked_before_an_error_is_stored(self, site, commands, redis):
        def broken():
            for event in ("A", "B"):
                track.delay(event=event)
            raise ZeroDivisionError

        site.ask(broken, status=500)
        assert commands() == (2, 1)
        assert [m["event"] for m in stored(redis)] == ["first", "A", "B"]

    def test_what_is_called_while_a_response_streams_is_stored_at_once(self, site, commands, redis):
        assert site.ask(stream).body == b"one two"
        assert commands() == (2, 2)
        assert [m["event"] for m in stored(redis)] == ["first", "Before", "While"]

    def test_a_redis_that_fails_at_the_end_fails_no_request(self, site, make_app, caplog):
        dropped = []

        def hear(sender, reason, messages, **_):
            dropped.append((sender, reason, messages))

        with EmbeddedRedis(appendonly=False) as own:
            make_app(segment_batch_requests=True, segment_redis_url=own.url, broker_url="memory://")
            site.ask(thrice)
            own.stop()
            messages_dropped.connect(hear)
            assert site.ask(thrice).body == b"done"
        assert dropped == [("default", "unavailable", 3)]
        (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
        assert record.getMessage().startswith("default: messages of a request that are lost: 3 (")
