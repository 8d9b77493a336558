"""The bytes of a message become the same message again."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu.utils import json as celery_json

from building import KINDS, ORDER, UTC, WHEN, build, track
from celery_segment import MessageTooLarge
from celery_segment.calls.api import CALLS
from celery_segment.messages import build_message, call_arguments, encode

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=5)
    ),
    max_leaves=20,
)
objects = st.none() | st.dictionaries(st.text(st.characters(codec="utf-8")), json_values)
texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=50)
PER_FIELD = {
    "context": objects,
    "integrations": objects,
    "traits": objects,
    "properties": objects,
    "timestamp": st.none() | st.datetimes(timezones=st.just(UTC)) | st.datetimes(),
    "category": st.none() | texts,
    "name": st.none() | texts,
    "anonymous_id": st.none() | texts | st.integers() | st.uuids(),
    "message_id": st.none() | texts | st.uuids(),
}


@pytest.mark.parametrize("name", CALLS)
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_the_arguments_of_a_message_make_it_again(name, data):
    given = {
        field: data.draw(PER_FIELD.get(field, texts), label=field) for field in ORDER[name].split()
    }
    try:
        encoded = encode(build(name, **given))
    except MessageTooLarge:
        return
    again = call_arguments(encoded)
    assert (
        encode(build_message(KINDS[name], **{f: again.get(f) for f in ORDER[name].split()}))
        == encoded
    )
    # They travel through a broker, in Celery's own JSON.
    travelled = celery_json.loads(celery_json.dumps(again))
    assert encode(build(name, **travelled)) == encoded


@pytest.mark.parametrize(
    "number", ["0.1000000000000000000000000000000000000001", "1E+400", "-1E-400", "12345678901.10"]
)
def test_numbers_beyond_a_float_keep_their_digits_on_the_way_through_a_broker(number):
    encoded = encode(track(properties={"n": Decimal(number)}, message_id="m", timestamp=WHEN))
    travelled = celery_json.loads(celery_json.dumps(call_arguments(encoded)))
    again = json.loads(encode(build("track", **travelled)), parse_float=Decimal)
    assert again == json.loads(encoded, parse_float=Decimal)
    assert again["properties"]["n"] == Decimal(number)


def test_a_message_keeps_its_id_and_timestamp_for_good():
    message = track()
    again = call_arguments(encode(message))
    assert again["message_id"] == message.message_id
    assert again["timestamp"] == message.timestamp
