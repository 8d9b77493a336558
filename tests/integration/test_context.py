"""What ``with context(...)`` gives the calls of its block."""

from __future__ import annotations

import asyncio
import threading
from contextvars import copy_context
from types import SimpleNamespace

import pytest

from celery_segment import (
    Analytics,
    NoIdentity,
    ValidationError,
    alias,
    context,
    identify,
    page,
    track,
)
from celery_segment.analytics import Client
from celery_segment.visitor import acting, current_visitor
from support import stored

pytestmark = pytest.mark.usefixtures("app")

VISITOR = SimpleNamespace(
    user_id="admin",
    anonymous_id="a1",
    context={"ip": "192.0.2.1", "locale": "de"},
    new_anonymous_id=lambda: None,
)


def only(redis):
    (message,) = stored(redis)
    message["context"].pop("library")
    return message


@pytest.mark.parametrize(
    "call",
    [
        lambda: track.delay(event="E"),
        lambda: track(event="E"),
        lambda: track.apply_async((), {"event": "E"}),
        lambda: track.s(event="E").apply_async(),
        lambda: Analytics().track.delay(event="E"),
        lambda: Client("testwritekeyk3pts3cr3t").track(event="E"),
    ],
)
def test_each_way_to_call_has_it(redis, call):
    with context(
        user_id=7, anonymous_id="a", context={"ip": "192.0.2.9"}, integrations={"All": False}
    ):
        call()
    message = only(redis)
    assert (message["userId"], message["anonymousId"]) == ("7", "a")
    assert message["context"] == {"ip": "192.0.2.9"}
    assert message["integrations"] == {"All": False}


def test_what_a_call_gives_wins_key_by_key(redis):
    given = {"context": {"a": 1, "b": 1}, "integrations": {"All": False, "Vero": True}}
    with context(user_id="u", anonymous_id="a", **given):
        track.delay(
            event="E", anonymous_id="b", context={"b": 2}, integrations={"Vero": False}, user_id="u"
        )
    message = only(redis)
    assert (message["userId"], message["anonymousId"]) == ("u", "b")
    assert message["context"] == {"a": 1, "b": 2}
    assert message["integrations"] == {"All": False, "Vero": False}


def test_blocks_add_up_and_the_inner_one_wins(redis):
    with context(user_id="u", context={"a": 1, "b": 1}, integrations={"All": False}):
        with context(anonymous_id="x", context={"b": 2, "c": 2}, integrations={"Vero": True}):
            track.delay(event="inner")
        track.delay(event="outer")
    track.delay("v", "without")
    inner, outer, without = stored(redis)
    for message in (inner, outer, without):
        message["context"].pop("library")
    assert (inner["userId"], inner["anonymousId"]) == ("u", "x")
    assert inner["context"] == {"a": 1, "b": 2, "c": 2}
    assert inner["integrations"] == {"All": False, "Vero": True}
    assert (outer["userId"], outer.get("anonymousId")) == ("u", None)
    assert outer["context"] == {"a": 1, "b": 1}
    assert without["context"] == {}
    assert "integrations" not in without


def test_one_of_two_ids_is_added_to_the_other(redis):
    with context(user_id="u"):
        track.delay(event="E", anonymous_id="a")
    with context(anonymous_id="b"):
        track.delay("v", "E")
    ids = [(message["userId"], message["anonymousId"]) for message in stored(redis)]
    assert ids == [("u", "a"), ("v", "b")]


def test_a_call_about_another_person_has_only_what_is_nobodys(redis):
    with (
        context(context={"app": "shop"}, integrations={"Vero": True}),
        context(user_id="u", context={"ip": "192.0.2.9"}, integrations={"All": False}),
    ):
        track.delay("v", "E")
    message = only(redis)
    assert message["userId"] == "v"
    assert message["context"] == {"app": "shop"}
    assert message["integrations"] == {"Vero": True}


def test_a_block_about_another_person_than_the_requests_visitor_has_nothing_of_them(redis):
    with acting(VISITOR), context(user_id="customer", context={"app": "shop"}):
        track.delay(event="E")
    message = only(redis)
    assert (message["userId"], message.get("anonymousId")) == ("customer", None)
    assert message["context"] == {"app": "shop"}


def test_a_block_without_a_person_adds_to_the_requests_visitor(redis):
    with acting(VISITOR), context(context={"app": "shop", "locale": "fr"}):
        track.delay(event="E")
    message = only(redis)
    assert (message["userId"], message["anonymousId"]) == ("admin", "a1")
    assert message["context"] == {"ip": "192.0.2.1", "locale": "fr", "app": "shop"}


def test_a_request_within_a_block_has_its_own_visitor(redis):
    with context(user_id="u", context={"app": "test"}), acting(VISITOR):
        track.delay(event="E")
    assert only(redis)["context"] == VISITOR.context


def test_an_alias_and_a_page_have_what_fits_them(redis):
    with context(anonymous_id="a", user_id="u", context={"page": {"path": "/a"}}):
        alias.delay("p", "u")
        page.delay()
    made, seen = stored(redis)
    assert (made["userId"], made["previousId"]) == ("u", "p")
    assert "anonymousId" not in made
    assert seen["properties"] == {"path": "/a"}


def test_what_a_block_was_given_may_change_afterwards(redis):
    given = {"a": {"b": 1}}
    with context(user_id="u", context=given):
        given["a"]["b"] = given["c"] = 2
        identify.delay()
    assert only(redis)["context"] == {"a": {"b": 1}}


def test_other_threads_have_nothing_of_it(redis):
    with context(user_id="u", context={"a": 1}):
        thread = threading.Thread(target=lambda: track.delay("v", "E"))
        thread.start()
        thread.join()
    assert only(redis)["context"] == {}


def test_each_task_of_asyncio_has_its_own(redis):
    async def visit(name, mine, others):
        with context(user_id=name):
            mine.set()
            await others.wait()
            track.delay(event=name)

    async def main():
        one, two = asyncio.Event(), asyncio.Event()
        await asyncio.gather(visit("one", one, two), visit("two", two, one))

    asyncio.run(main())
    assert {m["event"]: m["userId"] for m in stored(redis)} == {"one": "one", "two": "two"}


def test_it_ends_with_an_error_and_by_another_hand():
    with pytest.raises(KeyError), context(user_id="u"):
        raise KeyError
    assert current_visitor() is None

    def generator():
        with context(user_id="u"):
            yield

    each = generator()
    copy_context().run(next, each)
    each.close()
    assert current_visitor() is None


def test_it_decorates_a_function(redis):
    @context(context={"app": "shop"})
    def tracks():
        track.delay("u", "E")

    tracks()
    track.delay("u", "E")
    first, second = stored(redis)
    assert first["context"]["app"] == "shop"
    assert "app" not in second["context"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"user_id": object()}, "user_id: must be a string, a whole number or a UUID, not object"),
        ({"anonymous_id": True}, "anonymous_id: must be a string"),
        ({"context": "ip"}, "context: must be a dict, not str"),
        ({"integrations": ["All"]}, "integrations: must be a dict, not list"),
        ({"context": {"a": {"b": object()}}}, "context.a.b: "),
        ({"integrations": {"Vero": object()}}, "integrations.Vero: "),
    ],
)
def test_a_wrong_value_is_named_as_in_a_call(given, told):
    with pytest.raises(ValidationError) as in_block, context(**given):
        pass
    with pytest.raises(ValidationError) as in_call:
        track.delay(**{"user_id": "u", "event": "E", **given})
    assert told in str(in_block.value)
    assert str(in_block.value) == str(in_call.value)
    assert current_visitor() is None


def test_an_argument_that_it_has_not_is_refused():
    with pytest.raises(TypeError, match="unexpected keyword argument 'userid'"):
        context(userid="u")


def test_a_block_without_ids_is_no_visitor():
    with context(context={"a": 1}), pytest.raises(NoIdentity) as caught:
        track.delay(event="E")
    assert "visitor" not in str(caught.value)


def test_it_shows_nobodys_data():
    with context(user_id="s3cr3t", context={"ip": "192.0.2.9"}):
        assert repr(current_visitor()) == "Block(...)"


def test_where_calls_do_not_break_a_page_neither_does_a_block(app, redis, caplog):
    app.conf.segment_on_invalid = "log"
    with context(user_id=object(), context={"a": 1}):
        track.delay("u", "E")
    assert only(redis)["context"] == {}
    assert "test_context.py" in caplog.text
    assert "is dropped: user_id: must be a string" in caplog.text
