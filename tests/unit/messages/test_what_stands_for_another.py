"""Lazy objects and proxies are what they stand for, whichever argument they are."""

from __future__ import annotations

import collections
import json
import subprocess
import sys
from datetime import datetime

import pytest
from babel.support import LazyProxy
from celery.local import Proxy
from django.utils.functional import SimpleLazyObject, lazy, lazystr
from flask_babel import lazy_gettext
from werkzeug.local import LocalProxy

from building import UTC, UUID4, Plain, build, refusal, track, wire
from celery_segment import ValidationError
from celery_segment.messages import Track, build_message

#: By name: what stands for any value.
PROXIES = {
    "SimpleLazyObject": lambda value: SimpleLazyObject(lambda: value),
    "LocalProxy": lambda value: LocalProxy(lambda: value),
    "LazyProxy": lambda value: LazyProxy(lambda: value),
    "celery.Proxy": lambda value: Proxy(lambda: value),
    "lazy": lambda value: lazy(lambda: value, type(value))(),
    "both": lambda value: SimpleLazyObject(lambda: LocalProxy(lambda: value)),
}
#: By name: what stands for a text.
TEXTS = {
    **PROXIES,
    "lazystr": lazystr,
    "UserString": collections.UserString,
}


@pytest.fixture(params=PROXIES)
def proxy(request):
    return PROXIES[request.param]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize(
    "field", ["user_id", "anonymous_id", "event", "message_id", "category", "name"]
)
def test_a_text(text, field):
    name = "page" if field in {"category", "name"} else "track"
    given = {"user_id": "u", **({"event": "E"} if name == "track" else {}), field: text("Zoë")}
    camel = {"user_id": "userId", "anonymous_id": "anonymousId", "message_id": "messageId"}
    assert wire(build(name, **given))[camel.get(field, field)] == "Zoë"


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_text_as_value_and_key(text):
    given = {"a": text("x"), "b": [{"c": (text("y"),)}]}
    if text is not PROXIES["LazyProxy"]:  # which has no hash
        given[text("k")] = 1
    expected = {"a": "x", "b": [{"c": ["y"]}], "k": 1}
    if text is PROXIES["LazyProxy"]:
        del expected["k"]
    assert wire(track(properties=given))["properties"] == expected


@pytest.mark.parametrize(
    ("value", "sent"), [(5, "5"), (5.0, "5"), (UUID4, str(UUID4)), (Plain.NUMBER, "7")]
)
def test_an_id(proxy, value, sent):
    assert wire(track(user_id=proxy(value)))["userId"] == sent


def test_a_timestamp(proxy):
    moment = datetime(2026, 11, 23, 7, tzinfo=UTC)
    for value in (proxy(moment), proxy("2026-11-23T07:00:00Z")):
        assert wire(track(timestamp=value))["timestamp"] == "2026-11-23T07:00:00.000Z"


@pytest.mark.parametrize("field", ["properties", "context", "integrations"])
def test_an_object(proxy, field):
    assert wire(track(**{field: proxy({"a": proxy([1])})}))[field]["a"] == [1]


@pytest.mark.parametrize("value", [True, 1.5, [1, {"a": 2}], {"a": [None]}, "x"])
def test_a_value(proxy, value):
    given = {"a": [proxy(value)], "b": {"c": proxy(value)}, "odd": float("nan")}
    expected = {"a": [value], "b": {"c": value}, "odd": None}
    assert wire(track(properties=given))["properties"] == expected
    # And with a value that the encoder refuses, which has all of them converted one by one.
    given["odd"] = SimpleLazyObject(lambda: float("nan"))
    assert wire(track(properties=given, context=given))["properties"] == expected


NOTHING = {"LocalProxy": LocalProxy(lambda: None), "enum": Plain.NOTHING}
NOTHING["SimpleLazyObject"] = SimpleLazyObject(lambda: None)


@pytest.mark.parametrize("nothing", NOTHING.values(), ids=NOTHING)
def test_what_stands_for_nothing_is_not_given(nothing):
    optional = ("anonymous_id", "properties", "context", "integrations")
    message = wire(track(**dict.fromkeys(optional, nothing), timestamp=nothing, message_id=nothing))
    assert message.keys() == {"type", "userId", "event", "context", "timestamp", "messageId"}
    assert str(refusal(event=nothing)) == "event: is required by track"
    assert "give user_id or anonymous_id" in str(refusal(user_id=nothing))
    assert wire(track(properties={"a": nothing}))["properties"] == {"a": None}


def test_what_cannot_be_resolved_is_refused_by_field(proxy):
    def fail():
        raise RuntimeError("alice@example.com")

    for failing in (SimpleLazyObject(fail), LocalProxy(fail), lazystr(SimpleLazyObject(fail))):
        for field in ("user_id", "event", "message_id", "timestamp", "properties", "context"):
            for value in (failing, proxy(failing)):
                error = refusal(**{field: value})
                assert error.field == field
                assert "failed with RuntimeError" in str(error)
                assert "alice" not in str(error)
        error = refusal(properties={"a": [failing]})
        assert error.field == "properties.a[0]"
        assert "failed with RuntimeError" in str(error)
        assert "alice" not in str(error)


def test_a_proxy_of_itself_is_refused():
    proxy = LocalProxy(lambda: proxy)
    assert refusal(user_id=proxy).field == "user_id"
    assert refusal(properties={"a": proxy}).field == "properties.a"


def test_a_proxy_of_what_is_no_id_is_refused_by_its_type():
    error = refusal(user_id=SimpleLazyObject(lambda: ["a"]))
    assert str(error) == "user_id: must be a string, a whole number or a UUID, not list"


def test_flasks_translated_text_outside_of_a_request():
    # Without a request there is no language: flask-babel returns the text as it is.
    assert wire(track(event=lazy_gettext("Signed Up")))["event"] == "Signed Up"


def test_flasks_objects_outside_of_a_request():
    from flask import request

    with pytest.raises(ValidationError, match="reading a LocalProxy failed with RuntimeError"):
        build_message(Track, user_id=request, event="E")


def test_djangos_translated_text_as_the_event():
    # In a process of its own: Django's settings and translations are global.
    program = (
        "from django.conf import settings; settings.configure(USE_I18N=False)\n"
        "from django.utils.translation import gettext_lazy, ngettext_lazy\n"
        "from celery_segment import messages\n"
        "own = dict.fromkeys(['anonymous_id', 'properties', 'integrations'])\n"
        "message = messages.build_message(messages.Track, user_id=gettext_lazy('u'),\n"
        "    event=gettext_lazy('Signed Up'), message_id=gettext_lazy('m'), **own)\n"
        "print(messages.encode(message).decode())"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    sent = json.loads(run.stdout)
    assert (sent["userId"], sent["event"], sent["messageId"]) == ("u", "Signed Up", "m")
