"""Messages built of a call's arguments, and what each call takes: for tests/unit/messages."""

from __future__ import annotations

import enum
import json
import uuid
from datetime import datetime, timezone

import pytest

from celery_segment import ValidationError, __version__
from celery_segment.calls.api import CALLS
from celery_segment.messages import Alias, Group, Identify, Page, Screen, Track, encode

UTC = timezone.utc
WHEN = "2026-11-23T07:00:00.123Z"
LIBRARY = {"name": "celery-segment", "version": __version__}
KINDS = {
    "identify": Identify,
    "track": Track,
    "page": Page,
    "screen": Screen,
    "group": Group,
    "alias": Alias,
}

COMMON = {
    "user_id": "019mr8mf4r",
    "anonymous_id": "507f191e",
    "context": {"ip": "12.0.0.1"},
    "timestamp": datetime(2026, 11, 23, 7, 0, 0, 123456, tzinfo=UTC),
    "integrations": {"All": False, "Vero": True},
    "message_id": "m-1",
}
COMMON_ON_THE_WIRE = {
    "userId": "019mr8mf4r",
    "anonymousId": "507f191e",
    "context": {"ip": "12.0.0.1", "library": LIBRARY},
    "timestamp": WHEN,
    "integrations": {"All": False, "Vero": True},
    "messageId": "m-1",
}
#: The fields that a call has besides the common ones, and what they are on the wire.
OWN = {
    "identify": ({"traits": {"plan": "pro"}}, {"traits": {"plan": "pro"}}),
    "track": (
        {"event": "Item Purchased", "properties": {"revenue": 39.95}},
        {"event": "Item Purchased", "properties": {"revenue": 39.95}},
    ),
    "page": (
        {"category": "Docs", "name": "Node", "properties": {"url": "/docs"}},
        {"category": "Docs", "name": "Node", "properties": {"url": "/docs"}},
    ),
    "screen": (
        {"category": "Game", "name": "Start", "properties": {"level": 1}},
        {"category": "Game", "name": "Start", "properties": {"level": 1}},
    ),
    "group": ({"group_id": "g", "traits": {"size": 5}}, {"groupId": "g", "traits": {"size": 5}}),
    "alias": ({"previous_id": "anon-1"}, {"previousId": "anon-1"}),
}
#: The order of the arguments.
ORDER = {
    "identify": "user_id traits context timestamp anonymous_id integrations message_id",
    "track": "user_id event properties context timestamp anonymous_id integrations message_id",
    "alias": "previous_id user_id context timestamp integrations message_id",
    "group": "user_id group_id traits context timestamp anonymous_id integrations message_id",
    "page": "user_id category name properties context timestamp anonymous_id integrations"
    " message_id",
    "screen": "user_id category name properties context timestamp anonymous_id integrations"
    " message_id",
}
#: As little as a call takes.
LEAST = {
    "identify": {"user_id": "u"},
    "track": {"user_id": "u", "event": "E"},
    "page": {"user_id": "u"},
    "screen": {"user_id": "u"},
    "group": {"user_id": "u", "group_id": "g"},
    "alias": {"user_id": "u", "previous_id": "p"},
}


class Color(str, enum.Enum):
    RED = "red"


class Plain(enum.Enum):
    TEXT = "t"
    NUMBER = 7
    NOTHING = None


class Loud(str):
    __slots__ = ()

    def __str__(self):
        return "not what it holds"


def build(name, /, **kwargs):
    return CALLS[name].build(**kwargs)[1]


def wire(message):
    return json.loads(encode(message))


def track(**kwargs):
    return build("track", **{"user_id": "u", "event": "E", **kwargs})


def full(name):
    own, own_on_the_wire = OWN[name]
    given, expected = {**COMMON, **own}, {**COMMON_ON_THE_WIRE, **own_on_the_wire, "type": name}
    if name == "alias":
        del given["anonymous_id"], expected["anonymousId"]
    return given, expected


def refusal(name="track", /, **kwargs):
    with pytest.raises(ValidationError) as caught:
        encode(build(name, **{**LEAST[name], **kwargs}))
    return caught.value


UUID4 = uuid.UUID("0c4d7c4e-9f0f-4d63-8f0c-0a1b2c3d4e5f")
