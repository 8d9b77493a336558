"""What a source adds to its messages: default context and destinations, and a hook of its own."""

from __future__ import annotations

import json

import celery
import pytest

from celery_segment import Analytics, ValidationError, alias, identify, track
from celery_segment.buffer import messages_of
from celery_segment.signals import messages_dropped
from support import buffer_of

CONTEXT = {"app": {"name": "shop"}, "ip": "192.0.2.1", "library": {"name": "spoofed"}}


def stored(source="default"):
    content = buffer_of(Analytics().app, source)._server.execute(
        "GET", f"{{segment:{source}}}:open"
    )
    return [json.loads(bytes(m)) for m in messages_of(content)] if content else []


def drop_tests(message):
    return None if message.get("event") == "Test" else message


class TestDefaults:
    def test_context_is_below_what_a_call_gives(self, make_app):
        make_app(segment_context=CONTEXT)
        track.delay("u", "E")
        track.delay("u", "E", context={"ip": "1.2.3.4", "locale": "de"})
        plain, own = (message["context"] for message in stored())
        assert plain.pop("library")["name"] == own.pop("library")["name"] == "celery-segment"
        assert plain == {"app": {"name": "shop"}, "ip": "192.0.2.1"}
        assert own == {"app": {"name": "shop"}, "ip": "1.2.3.4", "locale": "de"}
        assert CONTEXT["library"] == {"name": "spoofed"}, "the configuration was changed"

    def test_integrations_are_below_what_a_call_gives(self, make_app):
        make_app(segment_integrations={"All": False, "Vero": True})
        identify.delay("u")
        alias.delay("p", "u", integrations={"Vero": False, "Mixpanel": True})
        plain, own = (message["integrations"] for message in stored())
        assert plain == {"All": False, "Vero": True}
        assert own == {"All": False, "Vero": False, "Mixpanel": True}

    def test_each_source_has_its_own(self, make_app):
        make_app(
            segment_integrations={"All": True},
            segment_sources={"eu": {"context": {"region": "eu"}, "integrations": {"All": False}}},
        )
        track.delay("u", "E")
        Analytics("eu").track.delay("u", "E")
        (plain,), (eu,) = stored(), stored("eu")
        assert (plain["integrations"], "region" in plain["context"]) == ({"All": True}, False)
        assert (eu["integrations"], eu["context"]["region"]) == ({"All": False}, "eu")

    def test_what_has_no_json_form_is_refused_with_its_path(self, make_app):
        make_app(segment_context={"app": {"handle": object()}})
        with pytest.raises(ValidationError, match=r"context\.app\.handle"):
            track.delay("u", "E")

    def test_they_count_into_the_size(self, make_app):
        make_app(segment_context={"note": "x" * 20_000})
        with pytest.raises(ValidationError, match="32,768"):
            track.delay("u", "E", {"text": "y" * 13_000})


class TestBeforeSend:
    def test_it_changes_every_message_once_however_it_is_sent(self, make_app, server, workers):
        app = make_app(segment_before_send="hooks.shout", segment_flush_interval=0.3)
        workers.start(app)
        properties = {"password": "pa55word", "kept": 1}
        track.delay("u", "delay", properties)
        track("u", "call", properties)
        track.apply_async(("u", "apply_async"))
        track.apply_async(("u", "countdown"), countdown=0.1)
        track.s("u", "signature").delay()
        celery.group(track.s("u", "group") for _ in range(2)).delay()
        with Analytics().batch():
            track.delay("u", "batch")
        celery.Celery("other", broker=app.conf.broker_url, set_as_current=False).send_task(
            "segment.track", kwargs={"user_id": "u", "event": "by name"}
        )
        identify.delay("u", {"plan": "free"})
        assert server.wait_for_messages(10, timeout=15)
        events = sorted(m["event"] for m in server.messages if m["type"] == "track")
        assert events == sorted(
            [
                *("delay!", "call!", "apply_async!", "countdown!", "signature!"),
                *("group!", "group!", "batch!", "by name!"),
            ]
        )
        kept = [m["properties"] for m in server.messages if m.get("properties")]
        assert kept == [{"kept": 1}] * 2
        assert properties == {"password": "pa55word", "kept": 1}, "the caller's object was changed"

    def test_it_may_drop_a_message_and_a_signal_tells(self, make_app):
        make_app(segment_before_send=drop_tests)
        told = []

        def hear(sender, reason, messages, **_):
            told.append((sender, reason, messages))

        messages_dropped.connect(hear, weak=False)
        try:
            result = track.delay("u", "Test")
            assert result.get() == result.id
            track("u", "Test")
            track.apply_async(("u", "Test"), countdown=5)
            track.delay("u", "E")
        finally:
            messages_dropped.disconnect(hear)
        assert [message["event"] for message in stored()] == ["E"]
        assert told == [("default", "before_send", 1)] * 3

    def test_it_gets_the_message_as_it_is_sent(self, make_app):
        seen = []
        make_app(
            segment_before_send=seen.append,
            segment_context={"region": "eu"},
        )
        track.delay(7, "E", {"price": 5}, message_id="m1", timestamp="2026-01-02T03:04:05Z")
        (message,) = seen
        assert message.pop("context")["region"] == "eu"
        assert message == {
            "type": "track",
            "messageId": "m1",
            "timestamp": "2026-01-02T03:04:05.000Z",
            "userId": "7",
            "event": "E",
            "properties": {"price": 5},
        }

    @pytest.mark.parametrize(
        ("returned", "text"),
        [
            ("nothing", "segment_before_send: must return the message or None, not str"),
            ({"type": "track", "userId": "u", "event": "E"}, "must not change the messageId"),
            ({"type": "nope", "messageId": "m1"}, "type: must be one of identify, track"),
            ({"type": "track", "messageId": "m1", "userId": "u"}, "event: is required by track"),
            (
                {"type": "identify", "messageId": "m1", "userId": "u", "propertees": 1},
                "propertees: is not a field of identify",
            ),
        ],
    )
    def test_what_it_returns_is_validated(self, make_app, returned, text):
        make_app(segment_before_send=lambda _: returned)
        with pytest.raises(ValidationError, match=text):
            track.delay("u", "E", message_id="m1")
        assert stored() == []

    def test_what_it_raises_reaches_the_caller_and_nothing_is_stored(self, make_app):
        make_app(segment_before_send=lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            track.delay("u", "E")
        assert stored() == []
