"""Of any values at all: they are encoded, or refused."""

from __future__ import annotations

import collections
from datetime import timedelta, timezone
from decimal import Decimal
from types import MappingProxyType

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_segment import ValidationError
from celery_segment.messages import encoding
from celery_segment.messages.values import encoder, plain_message
from values import (
    Color,
    Data,
    Dict,
    Kind,
    Level,
    Row,
    Slots,
    Struct,
    Tagged,
    Text,
    message,
    strictly,
)


def slowly(to_encode):
    """Encode a message on the slow road, whatever it holds."""
    return encoder.encode(plain_message(to_encode))


# ---------------------------------------------------------------- whatever comes


numbers = st.decimals(allow_nan=False, allow_infinity=False)
zones = st.none() | st.builds(
    timezone,
    st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(
        lambda d: timedelta(minutes=d // timedelta(minutes=1))
    ),
)
keys = (
    st.text()
    | st.integers()
    | st.floats()
    | numbers
    | st.uuids()
    | st.sampled_from([Decimal("NaN"), Decimal("Infinity")])
    | st.dates()
    | st.datetimes(timezones=zones)
    | st.binary()
    | st.sampled_from([*Kind, *Level, *Color, None, True, (1,), np.int64(1), Text("k")])
)
hashables = keys | st.times() | st.timedeltas() | st.booleans()
leaves = (
    hashables
    | st.decimals()
    | st.floats(width=32).map(np.float32)
    | st.integers(-(2**63), 2**63 - 1).map(np.int64)
    | st.lists(st.floats(), max_size=3).map(np.array)
    | st.text().map(Text)
    | st.sampled_from(
        [np.array([1, None]), np.datetime64("NaT", "D"), Decimal("sNaN"), object(), ...]
    )
)


def containers(inner):
    lists = st.lists(inner, max_size=4)
    mappings = st.dictionaries(keys, inner, max_size=4)
    return (
        lists
        | lists.map(tuple)
        | lists.map(collections.deque)
        | mappings
        | mappings.map(Dict)
        | mappings.map(MappingProxyType)
        | st.sets(hashables, max_size=3)
        | st.builds(Data, a=inner)
        | st.builds(Slots, inner)
        | st.builds(Struct, inner, inner)
        | st.builds(Tagged, inner)
        | st.builds(Row, inner, inner)
    )


anything = st.dictionaries(keys, st.recursive(leaves, containers, max_leaves=12), max_size=4)


@settings(max_examples=200, deadline=None)
@given(anything)
def test_any_value_is_encoded_or_refused(properties):
    before = repr(properties)
    built = message(properties)
    try:
        data = encoding._to_json(built)
    except ValidationError as error:
        refused = error
        data = None
    if data is None:
        assert refused.field.startswith("properties")
        str(refused).encode()
    else:
        # Not byte for byte: keys such as 1 and "1" become one, in JSON's way.
        assert strictly(data) == strictly(slowly(built))
    assert built.properties is properties
    assert repr(properties) == before


@settings(max_examples=100, deadline=None)
@given(st.lists(numbers | st.integers(), max_size=5))
def test_numbers_keep_all_their_digits(values):
    assert strictly(encoding._to_json(message({"a": values})))["properties"]["a"] == values
