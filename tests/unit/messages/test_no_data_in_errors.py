"""What is refused is told by its place and its type, and never by what it holds."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pydantic
import pytest
from django.utils.functional import SimpleLazyObject

from building import refusal, track
from celery_segment import ValidationError
from celery_segment.calls.attachments import attachments_of
from celery_segment.calls.prepared import Prepared
from celery_segment.config import load
from celery_segment.messages import encode, from_wire, run_hook
from celery_segment.trust import Trust

SECRET = "alice@example.com"


class Loud:
    def __str__(self):
        raise RuntimeError(SECRET)

    __repr__ = __iter__ = __index__ = isoformat = __str__


class Model(pydantic.BaseModel):
    address: bytes

    @pydantic.field_serializer("address")
    def _refuse(self, _value):
        raise ValueError(SECRET)


REFUSED = [
    {"timestamp": SECRET},
    {"timestamp": datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))},
    {"timestamp": "9999-12-31T23:59:59-05:00"},
    {"user_id": [SECRET]},
    {"user_id": {SECRET: 1}},
    {"user_id": Decimal("4915112345678.5")},
    {"user_id": Loud()},
    {"user_id": f"{SECRET}\ud800"},
    {"event": [SECRET]},
    {"message_id": SECRET * 10},
    {"message_id": f"{SECRET}\ud800"},
    {"context": [SECRET]},
    {"properties": {SECRET: object()}},
    {"properties": {SECRET: {"a": [object()]}}},
    {"properties": {"a": {(SECRET,): 1}}},
    {"properties": {"a": f"{SECRET}\ud800"}},
    {"properties": {f"{SECRET}\ud800": 1}},
    {"properties": {"a": SECRET * 2_000}},
    {"properties": {"a": Loud()}},
    {"properties": {Loud(): SECRET}},
    {"properties": {"a": Model(address=SECRET.encode())}},
    {"properties": {"a": SimpleLazyObject(Loud().__str__)}},
    {"properties": {"a": ValueError(SECRET)}},
]


@pytest.mark.parametrize("given", REFUSED, ids="-".join)
def test_a_refusal_quotes_nothing(given, caplog, recwarn):
    caplog.set_level(logging.DEBUG)
    error = refusal(**given)
    told = f"{error} {error!r} {error.field} {caplog.text} {[str(w.message) for w in recwarn]}"
    for part in ("alice", "example", "49151", "9999", "RuntimeError('"):
        assert part not in told


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("price", "price"),
        ("First name", "First name"),
        ("größe", "größe"),
        ("$set", "$set"),
        ("a.b", "a.b"),
        (7, "7"),
        (SECRET, "<key 1>"),
        ("4915112345678", "<key 1>"),
        (4915112345678, "<key 1>"),
        ("0c4d7c4e-9f0f-4d63-8f0c-0a1b2c3d4e5f", "<key 1>"),
        ("f" * 33, "<key 1>"),
        ("", "<key 1>"),
        ("a\nb", "<key 1>"),
    ],
)
def test_a_key_that_may_be_somebodys_is_told_by_its_place(key, shown):
    error = refusal(properties={"a": {"other": 1, key: [object()]}})
    assert error.field == f"properties.a.{shown}[0]"


def test_a_field_that_is_none_of_a_message_is_told_likewise():
    content = {"type": "track", "userId": "u", "event": "E", "messageId": "m"}
    for name, shown in (("emial", "emial"), (SECRET, "<key 3>"), (7, "<key 3>")):
        with pytest.raises(ValidationError) as caught:
            from_wire({**content, name: SECRET})
        assert str(caught.value) == f"{shown}: is not a field of track: put it into properties"
    with pytest.raises(ValidationError) as caught:
        from_wire({**content, "type": SECRET})
    assert "must be one of identify, track" in str(caught.value)
    assert "alice" not in str(caught.value)


def test_what_a_hook_returns_is_not_quoted():
    for returned in (SECRET, [SECRET]):
        with pytest.raises(ValidationError) as caught:
            run_hook(track(), lambda _, returned=returned: returned)
        assert "alice" not in str(caught.value)


def test_an_argument_of_a_callback_is_not_quoted():
    trust = Trust(load({"broker_url": "redis://h/0"}, {}))
    for argument in (Loud(), {Loud(): 1}, object()):
        with pytest.raises(ValidationError) as caught:
            attachments_of("i", "m", b"", {"args": [argument]}, None, receipt=False, trust=trust)
        assert caught.value.field == "link"
        assert "alice" not in str(caught.value)


def test_a_message_shows_its_id_and_not_its_content():
    message = track(user_id=SECRET, event=SECRET, message_id="m-1", properties={SECRET: SECRET})
    assert repr(message) == "Track(message_id='m-1')"
    prepared = Prepared(None, "m-1", encode(message), b"")
    assert repr(prepared) == "Prepared('m-1')"
