"""Calls that are not valid: raised, or logged and counted, as ``segment_on_invalid`` says."""

from __future__ import annotations

import pickle
from inspect import currentframe

import celery
import pytest

from celery_segment import (
    Analytics,
    BufferUnavailable,
    ConfigurationError,
    MessageTooLarge,
    NoIdentity,
    ValidationError,
    analytics,
    track,
)
from celery_segment.producer import places
from celery_segment.signals import messages_dropped
from celery_segment.testing import EmbeddedRedis
from support import drops, free_port, stored, wait_until

SECRET = "ann@example.com"


@pytest.fixture(autouse=True)
def _nothing_logged(monkeypatch):
    monkeypatch.setattr(places, "_logged", set())


@pytest.fixture
def logs(make_app):
    return make_app(segment_on_invalid="log", segment_sources={"strict": {"on_invalid": "raise"}})


def texts(caplog):
    return [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]


BAD = {
    "no event": (lambda: track.delay("u"), "event: is required by track"),
    "no id": (lambda: track.delay(event="E"), "user_id: give user_id or anonymous_id"),
    "direct": (lambda: track("u"), "event: is required by track"),
    "apply_async": (lambda: track.apply_async(("u",)), "event: is required by track"),
    "countdown": (lambda: track.apply_async(("u",), countdown=9), "event: is required by track"),
    "signature": (lambda: track.s("u").delay(), "event: is required by track"),
    "bound": (lambda: Analytics().track.delay("u"), "event: is required by track"),
    "too large": (lambda: track.delay("u", "E", {"a": SECRET * 9_000}), "properties: the message"),
    "an argument": (lambda: track.delay("u", evnt=SECRET), "unexpected keyword argument 'evnt'"),
    "a value": (lambda: track.delay("u", "E", {"a": object()}), "properties.a: "),
    "a source": (lambda: track.delay("u", "E", source="nope"), "source 'nope' is not configured"),
}


@pytest.mark.parametrize("bad", BAD)
def test_it_is_logged_and_counted(logs, redis, caplog, bad):  # noqa: ARG001 - the current one
    call, problem = BAD[bad]
    call()
    call()
    (text,) = texts(caplog)
    name, _, rest = text.partition(f" at {__file__}:")
    assert name == "track"
    assert int(rest.partition(" ")[0]) < currentframe().f_lineno
    assert f"is dropped: {problem}" in text or problem in text
    assert SECRET not in text
    assert stored(redis) == []
    assert Analytics().stats().dropped == drops(invalid=2)
    assert Analytics().stats().accepted == 0


def test_a_group_stores_what_is_valid(logs, redis):  # noqa: ARG001 - the current one
    celery.group(track.s("u", "E"), track.s("u")).delay()
    assert [m["event"] for m in stored(redis)] == ["E"]


def test_what_it_returns(logs):  # noqa: ARG001 - the current one
    result = track.delay("u")
    assert (result.state, result.get(timeout=1)) == ("IGNORED", None)
    assert (result.ready(), result.successful(), result.failed()) == (True, False, False)
    assert track.apply_async(("u",), task_id="mine").id == "mine"
    assert track("u") == ""
    again = pickle.loads(pickle.dumps(result))  # noqa: S301 - our own
    assert (type(again), again.id, again.state) == (type(result), result.id, "IGNORED")
    assert analytics.Client(source="default").track("u") == (False, {})


def test_it_is_sent_as_a_signal(logs):  # noqa: ARG001 - the current one
    heard = []

    def hear(sender, reason, messages, **_):
        heard.append((sender, reason, messages))

    messages_dropped.connect(hear)
    track.delay("u")
    assert heard == [("default", "invalid", 1)]


def raising(_):
    raise KeyError(SECRET)


def test_a_hook_that_raises(make_app, redis, caplog):
    make_app(segment_before_send=raising)
    with pytest.raises(KeyError):
        track.delay("u", "E")
    make_app(segment_on_invalid="log", segment_before_send=raising)
    track.delay("u", "E")
    (text,) = texts(caplog)
    assert f"is dropped: KeyError was raised at {__file__}:" in text
    assert SECRET not in caplog.text
    assert stored(redis) == []


def test_by_default_and_for_another_source_it_is_raised(make_app, logs):  # noqa: ARG001
    with pytest.raises(ValidationError, match="event: is required"):
        track.delay("u", source="strict")
    make_app()
    with pytest.raises(TypeError, match="evnt"):
        track.delay("u", evnt="E")
    with pytest.raises(NoIdentity):
        track(event="E")
    with pytest.raises(MessageTooLarge):
        track.apply_async(("u", "E", {"a": "x" * 40_000}))
    with pytest.raises(ConfigurationError, match="'nope'"):
        track.delay("u", "E", source="nope")
    assert Analytics().stats().dropped == drops()


def test_what_could_not_be_counted_is_counted_with_the_next(make_app):
    with EmbeddedRedis(appendonly=False) as own:
        make_app(segment_redis_url=own.url, segment_on_invalid="log")
        own.stop()
        track.delay("u")
        own.restart()
        track.delay("u")
        assert wait_until(lambda: Analytics().stats().dropped == drops(invalid=2))


def test_other_settings_decide_on_a_redis_that_is_away(make_app):
    url = f"redis://127.0.0.1:{free_port()}/0"
    make_app(segment_redis_url=url, segment_on_invalid="log")
    with pytest.raises(BufferUnavailable):
        track.delay("u", "E")
    assert track.delay("u").state == "IGNORED"
