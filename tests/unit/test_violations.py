"""What Segment would refuse of a message, or drop in silence, with its place."""

from __future__ import annotations

import pytest

from celery_segment.messages import MAX_MESSAGE_BYTES
from celery_segment.testing.violations import violations_of

GOOD = {"messageId": "m", "userId": "u", "timestamp": "2026-11-23T07:00:00.123Z"}
BY_TYPE = {
    "identify": {"traits": {"email": "e"}},
    "track": {"event": "E", "properties": {"revenue": 1}},
    "page": {"category": "c", "name": "n", "properties": {}},
    "screen": {"name": "n"},
    "group": {"groupId": "g", "traits": {}},
    "alias": {"previousId": "p"},
}


def found(content, size=100):
    return [tuple(violation) for violation in violations_of(content, size)]


def paths(content, size=100):
    return [path for path, _ in found(content, size)]


@pytest.mark.parametrize("type_", BY_TYPE)
def test_a_good_message_violates_nothing(type_):
    context = {"ip": "192.0.2.1", "library": {"name": "n"}, "active": True, "own": [1]}
    extra = {"context": context, "integrations": {"All": False}, "sentAt": GOOD["timestamp"]}
    assert found({"type": type_, **GOOD, **BY_TYPE[type_], **extra}, MAX_MESSAGE_BYTES) == []


@pytest.mark.parametrize(
    ("type_", "without", "path"),
    [
        ("identify", "userId", "userId"),
        ("track", "userId", "userId"),
        ("track", "event", "event"),
        ("page", "userId", "userId"),
        ("group", "groupId", "groupId"),
        ("alias", "previousId", "previousId"),
        ("alias", "userId", "userId"),
        ("track", "messageId", "messageId"),
    ],
)
@pytest.mark.parametrize("empty", ["absent", None, ""])
def test_what_a_type_needs(type_, without, path, empty):
    content = {"type": type_, **GOOD, **BY_TYPE[type_]}
    del content[without]
    if empty != "absent":
        content[without] = empty
    assert paths(content) == [path]


@pytest.mark.parametrize("type_", sorted(BY_TYPE.keys() - {"alias"}))
def test_an_anonymous_id_is_enough(type_):
    content = {"type": type_, **GOOD, **BY_TYPE[type_], "anonymousId": "a"}
    del content["userId"]
    assert found(content) == []


TYPES = "it is one of identify, track, page, screen, group, alias"
ISO = "is not ISO 8601, such as 2026-11-23T07:00:00.123Z"
RETRY = "Segment cannot tell a retry from a new message"


@pytest.mark.parametrize(
    ("change", "path", "text"),
    [
        ({"type": None}, "type", f"is missing: {TYPES}"),
        ({"type": "Track"}, "type", f"is unknown to Segment: {TYPES}"),
        ({"type": ["track"]}, "type", f"is unknown to Segment: {TYPES}"),
        ({"event": 5}, "event", "must be a string, not a number"),
        ({"userId": 5}, "userId", "must be a string, not a number"),
        ({"properties": "x"}, "properties", "must be an object, not a string"),
        ({"traits": [1]}, "traits", "must be an object, not a list"),
        ({"context": True}, "context", "must be an object, not a boolean"),
        ({"integrations": 1.5}, "integrations", "must be an object, not a number"),
        ({"context": {"ip": 1}}, "context.ip", "must be a string, not a number"),
        ({"context": {"page": "/"}}, "context.page", "must be an object, not a string"),
        ({"messageId": 5}, "messageId", f"must be a string, not a number: {RETRY}"),
        ({"messageId": "x" * 101}, "messageId", "has 101 characters; Segment accepts 1 to 100"),
        ({"timestamp": 1}, "timestamp", "must be a text of ISO 8601, not a number"),
        ({"timestamp": "yesterday"}, "timestamp", f"this text of 9 characters {ISO}"),
        ({"originalTimestamp": ""}, "originalTimestamp", f"this text of 0 characters {ISO}"),
        ({"user_id": "u"}, "user_id", "is not a field of Segment, which ignores it: userId is"),
        ({"groupID": "u"}, None, None),
    ],
)
def test_a_field_of_the_wrong_kind(change, path, text):
    content = {"type": "track", **GOOD, **BY_TYPE["track"], **change}
    assert found(content) == ([] if path is None else [(path, text)])


def test_a_message_that_is_too_large():
    content = {"type": "track", **GOOD, **BY_TYPE["track"]}
    assert found(content, MAX_MESSAGE_BYTES) == []
    assert found(content, MAX_MESSAGE_BYTES + 1) == [
        ("", "has 32,769 bytes; Segment accepts 32,768")
    ]


def test_no_value_is_told():
    secret = "s3cr3t"
    bad = dict.fromkeys(("type", "timestamp", "properties", "traits", "context"), secret)
    content = {**bad, "messageId": secret * 20, "userId": [secret], "event": {secret: secret}}
    assert len(found(content)) > 6
    assert secret not in repr(found(content))
