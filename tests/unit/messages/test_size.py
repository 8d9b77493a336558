"""No message is larger than Segment takes."""

from __future__ import annotations

import json
import pickle
from decimal import Decimal

import pytest

from building import WHEN, refusal, track
from celery_segment import MessageTooLarge
from celery_segment.messages import MAX_MESSAGE_BYTES, encode


def padded(unit, size):
    """A message of exactly ``size`` bytes whose padding is of ``unit``, and a few letters."""
    fixed = {"timestamp": WHEN, "message_id": "m"}
    empty = len(encode(track(properties={"pad": ""}, **fixed)))
    each = len(encode(track(properties={"pad": unit}, **fixed))) - empty
    units, letters = divmod(size - empty, each)
    return track(properties={"pad": unit * units + "x" * letters}, **fixed)


@pytest.mark.parametrize("unit", ["x", "é", "漢", "🦓", '"', "\\", "\n", "\x01", "/", "\u2028"])
def test_the_limit_is_of_bytes_as_encoded(unit):
    data = encode(padded(unit, 32_768))
    assert len(data) == MAX_MESSAGE_BYTES == 32_768
    assert json.loads(data)["event"] == "E"
    with pytest.raises(MessageTooLarge) as caught:
        encode(padded(unit, 32_769))
    assert (caught.value.size, caught.value.limit) == (32_769, 32_768)


def test_the_limit_holds_for_values_that_take_the_slow_road():
    fixed = {"timestamp": WHEN, "message_id": "m"}
    odd = {"nan": Decimal("NaN"), "pad": ""}
    room = 32_768 - len(encode(track(properties=odd, **fixed)))
    assert len(encode(track(properties={**odd, "pad": "x" * room}, **fixed))) == 32_768
    with pytest.raises(MessageTooLarge):
        encode(track(properties={**odd, "pad": "x" * (room + 1)}, **fixed))


@pytest.mark.parametrize(
    ("fields", "largest"),
    [
        ({"properties": {"a": "x" * 40_000}}, "properties"),
        ({"properties": {"a": "x" * 20_000}, "context": {"a": "y" * 20_001}}, "context"),
        ({"event": "x" * 40_000, "properties": {"a": "x" * 30_000}}, "event"),
        ({"user_id": "x" * 40_000}, "user_id"),
        ({"integrations": {"a": ["x"] * 40_000}}, "integrations"),
        ({"properties": {"a": Decimal("NaN"), "b": "x" * 40_000}}, "properties"),
    ],
)
def test_too_large_names_the_largest_field(fields, largest):
    error = refusal(**fields)
    assert isinstance(error, MessageTooLarge)
    assert error.field == error.largest == largest
    assert f"{error.size:,} bytes" in str(error)
    assert "32,768" in str(error)
    assert f"{largest} is its largest field" in str(error)
    assert "xxx" not in str(error)


def test_too_large_survives_pickling():
    error = refusal(properties={"a": "x" * 40_000})
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(again) is MessageTooLarge
    assert str(again) == str(error)
    assert (again.size, again.limit, again.largest) == (error.size, error.limit, error.largest)
