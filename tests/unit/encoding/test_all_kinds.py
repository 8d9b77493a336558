"""Of all kinds of values, nested at random: each is encoded as documented, or refused by its path.

``SEGMENT_TEST_EXAMPLES=2000`` tries that many.
"""

from __future__ import annotations

import collections
import json
import os
from datetime import date, datetime, timedelta
from decimal import Decimal
from ipaddress import ip_address
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, NamedTuple
from unittest import mock
from uuid import UUID

import freezegun.api
import numpy as np
import pandas as pd
import pydantic
import pytest
from django.utils.functional import SimpleLazyObject, lazystr
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.local import LocalProxy

from celery_segment import ValidationError
from celery_segment.calls.api import CALLS
from celery_segment.messages import add_defaults, encode, run_hook
from values import ACCOUNT, UTC, Attrs, Color, Data, Dict, Indexed, Kind, List, Slots, Struct, Text

EXAMPLES = int(os.environ.get("SEGMENT_TEST_EXAMPLES", "200"))


class Case(NamedTuple):
    """A value with its JSON, or with the path, from it on, of what has none."""

    value: Any
    json: Any = None
    refused: str | None = None


#: Methods that Python, the encoder or this library may call.
METHODS = (
    *("__str__", "__repr__", "__eq__", "__ne__", "__hash__", "__iter__", "__len__", "__bool__"),
    *("__getattr__", "__index__", "__int__", "__float__", "__format__", "__contains__"),
    *("__getitem__", "keys", "items", "values", "isoformat", "encode", "model_dump", "tolist"),
    *("__json__", "_get_current_object", "__reduce__", "__reduce_ex__"),
)
#: Of what a value is in any case, whatever its methods do.
BASES = {str: "text", list: [1, 2], dict: {"a": 1}, int: 5, float: 1.5, tuple: (1, 2)}


def fail(*_args, **_kwargs):
    raise LookupError("alice@example.com")


def of_hostile_class(methods, base):
    """Make an object whose methods raise."""
    kind = type("Hostile", (base,), dict.fromkeys(methods, fail))
    return base.__new__(kind) if base is object else kind(BASES[base])


KNOWN = [
    (np.int64(5), 5),
    (np.uint8(5), 5),
    (np.float32(1.5), 1.5),
    (np.float64("nan"), None),
    (np.bool_(True), True),
    (np.str_("x"), "x"),
    (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    (np.array([1.0, np.inf]), [1.0, None]),
    (np.datetime64("2026-11-23"), "2026-11-23"),
    (np.datetime64("2026-11-23T12:00", "ns"), "2026-11-23T12:00:00"),
    (np.datetime64("NaT", "ns"), None),
    (pd.NA, None),
    (pd.NaT, None),
    (pd.Timestamp("2026-11-23T12:00Z"), "2026-11-23T12:00:00Z"),
    (pd.Timedelta(seconds=90), "PT90S"),
    (freezegun.api.FakeDatetime(2026, 11, 23, tzinfo=UTC), "2026-11-23T00:00:00Z"),
    (freezegun.api.FakeDate(2026, 11, 23), "2026-11-23"),
    (datetime(2026, 11, 23, tzinfo=UTC), "2026-11-23T00:00:00Z"),
    (date(2026, 11, 23), "2026-11-23"),
    (timedelta(seconds=90), "PT90S"),
    (Decimal("1.10"), Decimal("1.10")),
    (Decimal("NaN"), None),
    (float("inf"), None),
    (UUID(int=5), str(UUID(int=5))),
    (Kind.TEXT, "text"),
    (Kind.NUMBER, 2),
    (Kind.INNER, {"a": [1]}),
    (Color.RED, "red"),
    (Indexed(), 5),
    (Text("right"), "right"),
    (lazystr("later"), "later"),
    (ip_address("192.0.2.1"), "192.0.2.1"),
    (PurePosixPath("/srv"), "/srv"),
    (pydantic.SecretStr("s3cret"), "**********"),
    (pydantic.HttpUrl("https://example.com/"), "https://example.com/"),
    (ACCOUNT, json.loads(ACCOUNT.model_dump_json())),
    (b"abc", "YWJj"),
]
UNKNOWN = [
    *(object(), 1j, range(3), len, np.complex128(1j), np.longdouble("1.1"), mock.MagicMock()),
    *(pd.Series([1]), pd.DataFrame({"a": [1]}), np.timedelta64(3, "M"), "\ud800"),
]
# By their places: hypothesis would print all that it may choose from.
leaves = (
    st.integers(0, len(KNOWN) - 1).map(lambda place: Case(*KNOWN[place]))
    | st.integers(0, len(UNKNOWN) - 1).map(lambda place: Case(UNKNOWN[place], refused=""))
    | (st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8"))).map(
        lambda value: Case(value, value)
    )
)

#: Keys with their names; each begins with its kind, so that no two are the same.
KEYS = [
    ("name", "name"),
    (1, "1"),
    (np.int64(2), "2"),
    (UUID(int=5), str(UUID(int=5))),
    (date(2026, 11, 23), "2026-11-23"),
    (Kind.TEXT, "text"),
    (Text("right"), "right"),
    (lazystr("later"), "later"),
    ("alice@example.com", "alice@example.com"),
    (PurePosixPath("/srv"), "/srv"),
]
#: As a path shows them: not what may be somebody's.
HIDDEN = {str(UUID(int=5)), "2026-11-23", "alice@example.com", "/srv"}


def in_list(wrap):
    def made(inner):
        refused = next((f"[{n}]{c.refused}" for n, c in enumerate(inner) if _is_refused(c)), None)
        return Case(wrap([c.value for c in inner]), [c.json for c in inner], refused)

    return made


def in_dict(wrap):
    def made(inner):
        shown = (
            f".<key {n}>{c.refused}" if name in HIDDEN else f".{name}{c.refused}"
            for n, ((_, name), c) in enumerate(inner)
            if _is_refused(c)
        )
        return Case(
            wrap({key: c.value for (key, _), c in inner}),
            {name: c.json for (_, name), c in inner},
            next(shown, None),
        )

    return made


def in_field(wrap, name):
    def made(inner):
        refused = f".{name}{inner.refused}" if _is_refused(inner) else None
        return Case(wrap(inner.value), {name: inner.json}, refused)

    return made


def behind(wrap):
    return lambda inner: Case(wrap(inner.value), inner.json, inner.refused)


def _is_refused(case):
    return case.refused is not None


def containers(inner):
    lists = st.lists(inner, max_size=4)
    dicts = st.lists(
        st.tuples(st.integers(0, len(KEYS) - 1).map(KEYS.__getitem__), inner),
        max_size=4,
        unique_by=lambda pair: pair[0][1],
    )
    return (
        *(lists.map(in_list(wrap)) for wrap in (list, tuple, collections.deque, List)),
        *(dicts.map(in_dict(wrap)) for wrap in (dict, MappingProxyType, Dict)),
        *(inner.map(in_field(kind, "a")) for kind in (lambda value: Data(a=value), Slots, Attrs)),
        inner.map(in_field(Struct, "someName")),
        inner.map(behind(lambda value: SimpleLazyObject(lambda: value))),
        inner.map(behind(lambda value: LocalProxy(lambda: value))),
    )


objects = st.recursive(leaves, lambda inner: st.one_of(*containers(inner)), max_leaves=12).map(
    in_field(lambda value: {"a": value}, "a")
)


#: Hypothesis describes some of the values, also where all is well.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")


def sent_or_refused(**given):
    """Return what a call sends, and None; or None, and why it is refused."""
    try:
        _, message = CALLS["track"].build(**{"user_id": "u", "event": "E", **given})
        add_defaults(message, {"app": {"name": "shop"}}, {"All": True})
        data = encode(run_hook(message, lambda content: content))
    except ValidationError as refused:
        return None, refused
    return json.loads(data, parse_float=Decimal), None


@settings(max_examples=EXAMPLES, deadline=None)
@given(objects)
def test_a_value_is_encoded_as_documented_or_refused_by_its_path(case):
    sent, error = sent_or_refused(properties=case.value)
    if error is None:
        expected = json.dumps(case.json, default=float)
        assert case.refused is None
        assert sent["properties"] == json.loads(expected, parse_float=Decimal)
    else:
        assert error.field == f"properties{case.refused}"
        assert "alice" not in str(error)


anything = (
    leaves.map(lambda case: case.value)
    | objects.map(lambda case: case.value)
    | st.builds(
        of_hostile_class,
        st.sets(st.sampled_from(METHODS), min_size=1, max_size=4),
        st.sampled_from([object, *BASES]),
    )
)
FIELDS = ("user_id", "anonymous_id", "event", "properties", "context", "integrations")
fields = st.dictionaries(
    st.sampled_from([*FIELDS, "timestamp", "message_id"]),
    anything | anything.map(lambda value: {"a": [value]}) | anything.map(lambda value: [value]),
    min_size=1,
    max_size=3,
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(fields)
def test_a_call_with_anything_is_encoded_or_refused_by_its_field(given):
    sent, error = sent_or_refused(**given)
    if error is None:
        assert sent["type"] == "track"
    else:
        assert error.field.partition(".")[0] in {"user_id", "event", *given}
        assert "alice" not in str(error)


@pytest.mark.parametrize("base", [object, *BASES], ids=lambda base: base.__name__)
@pytest.mark.parametrize("method", METHODS)
def test_an_object_whose_method_raises_is_what_it_is_or_refused(method, base):
    value = of_hostile_class([method], base)
    for properties, path in (
        ({"a": value}, "properties.a"),
        ({"odd": SimpleLazyObject(lambda: 1), "a": value}, "properties.a"),
        ({"odd": Decimal("NaN"), "a": value}, "properties.a"),
        (SimpleLazyObject(lambda: {"a": value}), "properties.a"),
    ):
        sent, error = sent_or_refused(properties=properties)
        if error is None:
            assert sent["properties"]["a"] == json.loads(
                json.dumps(BASES[base]), parse_float=Decimal
            )
        else:
            assert error.field == path
            assert "alice" not in str(error)
            assert base is object or method in {"_get_current_object", "model_dump"}
