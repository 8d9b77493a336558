"""A message's id, and the context that the library adds to."""

from __future__ import annotations

import copy
import uuid
from datetime import datetime
from decimal import Decimal

import pytest

from building import LEAST, LIBRARY, OWN, UTC, UUID4, Color, Loud, build, refusal, track, wire
from celery_segment.calls.api import CALLS
from celery_segment.messages import encode
from support import at_once

# ---------------------------------------------------------------- messageId


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("m", "m"),
        ("x" * 100, "x" * 100),
        ("é" * 100, "é" * 100),
        (UUID4, str(UUID4)),
        (Color.RED, "red"),
        (Loud("quiet"), "quiet"),
    ],
)
def test_message_ids(value, text):
    message = track(message_id=value)
    assert (message.message_id, wire(message)["messageId"]) == (text, text)
    assert type(message.message_id) is str


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("x" * 101, "has 101 characters; Segment accepts 1 to 100"),
        ("", "has 0 characters; Segment accepts 1 to 100"),
        (5, "must be a string or a UUID, not int"),
        (True, "must be a string or a UUID, not bool"),
        (b"m", "must be a string or a UUID, not bytes"),
    ],
)
def test_what_is_no_message_id_is_refused(value, problem):
    error = refusal(message_id=value)
    assert str(error) == f"message_id: {problem}"


def test_minted_ids_are_unique_random_uuids():
    ids = [track().message_id for _ in range(10_000)]
    assert len(set(ids)) == len(ids)
    for text in ids:
        parsed = uuid.UUID(text)
        assert str(parsed) == text
        assert (parsed.version, parsed.variant) == (4, uuid.RFC_4122)
    # Each of the 122 random bits is set in about half of them.
    numbers = [uuid.UUID(text).int for text in ids]
    fixed = {*range(76, 80), 62, 63}
    for bit in set(range(128)) - fixed:
        assert 4_500 < sum(number >> bit & 1 for number in numbers) < 5_500, bit


def test_ids_that_threads_make_at_once_are_distinct():
    made = at_once(100, lambda: [track().message_id for _ in range(100)])
    ids = [each for some in made for each in some]
    assert len(set(ids)) == len(ids) == 10_000


# ---------------------------------------------------------------- context


def test_the_library_in_the_context_is_ours_and_the_rest_is_kept():
    context = {"library": {"name": "analytics-node"}, "ip": "1.2.3.4", "app": {"version": "5"}}
    sent = wire(track(context=context))["context"]
    assert sent == {"library": LIBRARY, "ip": "1.2.3.4", "app": {"version": "5"}}


@pytest.mark.parametrize("name", CALLS)
def test_the_callers_objects_are_never_changed(name):
    nested = {"a": [1, {"b": float("nan")}], "when": datetime(2026, 1, 1, tzinfo=UTC), 1: {2}}
    objects = {"context": {"library": {"name": "theirs"}, **nested}, "integrations": {**nested}}
    objects |= {field: {**nested} for field in ("traits", "properties") if field in OWN[name][0]}
    before = repr(copy.deepcopy(objects))
    for more in ({}, {"odd": Decimal("NaN")}):
        given = {field: {**value, **more} for field, value in objects.items()}
        kept = repr(copy.deepcopy(given))
        encode(build(name, **{**LEAST[name], **given}))
        assert repr(given) == kept
    assert repr(objects) == before


def test_two_messages_do_not_share_a_context():
    first, second = track(context={"a": 1}), track(context={"b": 2})
    assert wire(first)["context"] == {"a": 1, "library": LIBRARY}
    assert wire(second)["context"] == {"b": 2, "library": LIBRARY}
    assert wire(track())["context"] == {"library": LIBRARY}
