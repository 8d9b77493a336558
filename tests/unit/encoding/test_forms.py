"""Every Python value has its one JSON form."""

from __future__ import annotations

import collections
import json
import subprocess
import sys
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import PurePosixPath, PureWindowsPath
from types import MappingProxyType
from uuid import UUID, SafeUUID

import numpy as np
import pandas as pd
import pydantic
import pytest
from django.utils.datastructures import MultiValueDict
from django.utils.functional import SimpleLazyObject, lazystr
from django.utils.safestring import mark_safe
from werkzeug.local import LocalProxy

from celery_segment.messages import encoding
from values import (
    ACCOUNT,
    EAST,
    NOON,
    ODD,
    UTC,
    Attrs,
    Bytes,
    Color,
    Data,
    Day,
    Delta,
    Dict,
    Float,
    Id,
    Indexed,
    Int,
    Kind,
    Level,
    List,
    Login,
    Model,
    Money,
    Named,
    NaT,
    Point,
    Root,
    Row,
    Slots,
    Stamp,
    Struct,
    Tagged,
    Text,
    message,
    raw,
)

#: Each value's JSON, byte for byte.
FORMS = [
    # as they are
    (None, "null"),
    (True, "true"),
    (False, "false"),
    (0, "0"),
    (-1, "-1"),
    (2**63, "9223372036854775808"),
    (2**64, "18446744073709551616"),
    (-(10**40), "-1" + "0" * 40),
    (10**4000, "1" + "0" * 4000),
    (1.5, "1.5"),
    (0.1, "0.1"),
    (5e-324, "5e-324"),
    ("", '""'),
    ("Zoë 漢 🦓", '"Zoë 漢 🦓"'),
    ('"\\\n\x00\x7f', '"\\"\\\\\\n\\u0000\x7f"'),
    ([], "[]"),
    ({}, "{}"),
    ([1, [2, {"a": []}]], '[1,[2,{"a":[]}]]'),
    # as JavaScript does
    (float("nan"), "null"),
    (float("inf"), "null"),
    (float("-inf"), "null"),
    (Decimal("NaN"), "null"),
    (Decimal("sNaN"), "null"),
    (Decimal("-NaN"), "null"),
    (Decimal("Infinity"), "null"),
    (Decimal("-Infinity"), "null"),
    (np.float64("nan"), "null"),
    (np.float32("inf"), "null"),
    (np.float16("-inf"), "null"),
    (Float("nan"), "null"),
    (Money("NaN"), "null"),
    ([1.0, {"a": (float("nan"), Decimal("Infinity"))}], '[1.0,{"a":[null,null]}]'),
    (np.array([1.0, np.nan, np.inf]), "[1.0,null,null]"),
    # exact numbers
    (Decimal("39.95"), "39.95"),
    (Decimal("1.10"), "1.10"),
    (Decimal("0.1000000000000000000000000000000000000001"), None),
    (Decimal("1E+30"), "1E+30"),
    (Decimal("-0.00"), "-0.00"),
    (Money("1.10"), "1.10"),
    # text of a kind
    (UUID(int=5), '"00000000-0000-0000-0000-000000000005"'),
    (Id(int=5), '"00000000-0000-0000-0000-000000000005"'),
    (UUID(int=5, is_safe=SafeUUID.safe), '"00000000-0000-0000-0000-000000000005"'),
    (b"abc", '"YWJj"'),
    (bytearray(b"abc"), '"YWJj"'),
    (memoryview(b"abc"), '"YWJj"'),
    (Bytes(b"abc"), '"YWJj"'),
    # times
    (date(2026, 11, 23), '"2026-11-23"'),
    (Day(2026, 11, 23), '"2026-11-23"'),
    (NOON, '"2026-11-23T12:00:00.005000"'),
    (NOON.replace(tzinfo=UTC), '"2026-11-23T12:00:00.005000Z"'),
    (NOON.replace(tzinfo=EAST), '"2026-11-23T12:00:00.005000+05:30"'),
    (datetime.min, '"0001-01-01T00:00:00"'),  # noqa: DTZ901
    (Stamp(2026, 11, 23, 12, tzinfo=EAST), '"2026-11-23T12:00:00+05:30"'),
    (NaT(2026, 11, 23), "null"),
    (time(7, 0, 1), '"07:00:01"'),
    (timedelta(0), '"P0D"'),
    (timedelta(days=1, seconds=2, microseconds=3), '"P1DT2.000003S"'),
    (timedelta(seconds=-90), '"-PT90S"'),
    (Delta(seconds=90), '"PT90S"'),
    # enums
    (Kind.TEXT, '"text"'),
    (Kind.NUMBER, "2"),
    (Kind.NOTHING, "null"),
    (Kind.PAIR, "[1,null]"),
    (Kind.INNER, '{"a":[1]}'),
    (Level.HIGH, "3"),
    (Color.RED, '"red"'),
    # containers
    ((1, 2), "[1,2]"),
    ({1}, "[1]"),
    (frozenset("a"), '["a"]'),
    ({"a": 1}.keys(), '["a"]'),
    (collections.deque([1, float("nan")]), "[1,null]"),
    (Point(1, "y"), '[1,"y"]'),
    (List([1]), "[1]"),
    (Dict(a=1), '{"a":1}'),
    (collections.OrderedDict(b=1, a=2), '{"b":1,"a":2}'),
    (collections.defaultdict(list, a=[1]), '{"a":[1]}'),
    (collections.Counter("aab"), '{"a":2,"b":1}'),
    (collections.ChainMap({"a": 1}, {"b": 2}), None),
    (MappingProxyType({"a": float("inf")}), '{"a":null}'),
    (collections.UserDict(a=1), '{"a":1}'),
    (collections.UserList([1]), "[1]"),
    (collections.UserString("q"), '"q"'),
    (MultiValueDict({"a": ["1", "2"]}), '{"a":["1","2"]}'),
    # objects with fields
    (Data(), '{"a":1}'),
    (Data(a=Data(a=float("nan"))), '{"a":{"a":null}}'),
    (Slots({"b": ODD}), '{"a":{"b":null}}'),
    (Struct(1), '{"someName":1}'),
    (Struct({"b": ODD}, left_out=2), '{"someName":{"b":null},"leftOut":2}'),
    (Tagged(float("nan")), '{"kind":"tagged","a":null}'),
    (Row(1, Row(2, 3)), "[1,[2,3]]"),
    (
        Model(a=1, price=Decimal("1.10"), when=NOON.replace(tzinfo=UTC)),
        '{"a":1,"price":"1.10","when":"2026-11-23T12:00:00.005000Z","ratio":null}',
    ),
    (Root([1, 2]), "[1,2]"),
    (
        ACCOUNT,
        (
            '{"site":"https://example.com/a?b=c","address":"192.0.2.1","folder":"/srv/a",'
            '"password":"**********","token":"**********","plan":3,"waits":"PT1M30S",'
            '"givenName":"Zoë","only_json":"number 5"}'
        ),
    ),
    (Model.model_construct(a="not a number"), '{"a":"not a number","ratio":null}'),
    (Login("u", "s3cret"), '{"user":"u","password":"**********"}'),
    (Attrs({"b": ODD}), '{"a":{"b":null}}'),
    (Named(1), "[1,null]"),
    (pydantic.SecretStr("s3cret"), '"**********"'),
    (pydantic.SecretBytes(b"s3cret"), '"**********"'),
    (pydantic.HttpUrl("https://example.com/a"), '"https://example.com/a"'),
    (pydantic.PostgresDsn("postgres://a@b/c"), '"postgres://a@b/c"'),
    # addresses and paths
    (ip_address("192.0.2.1"), '"192.0.2.1"'),
    (ip_network("2001:db8::/32"), '"2001:db8::/32"'),
    (ip_interface("192.0.2.1/24"), '"192.0.2.1/24"'),
    (PurePosixPath("/srv/a"), '"/srv/a"'),
    (PureWindowsPath("c:/a"), r'"c:\\a"'),
    # subclasses of the plain types
    (Text("right"), '"right"'),
    (Int(5), "5"),
    (Float(1.5), "1.5"),
    # numpy
    (np.int64(-3), "-3"),
    (np.uint8(255), "255"),
    (np.float64(0.1), "0.1"),
    (np.float32(1.5), "1.5"),
    (np.bool_(True), "true"),
    (np.str_("x"), '"x"'),
    (np.bytes_(b"abc"), '"YWJj"'),
    (np.array(3), "3"),
    (np.array([]), "[]"),
    (np.array([[1, 2], [3, 4]]), "[[1,2],[3,4]]"),
    (np.array(["a", "b"]), '["a","b"]'),
    (np.array([1, "a", None, UUID(int=0)], dtype=object), None),
    (np.datetime64("2026-11-23"), '"2026-11-23"'),
    (np.datetime64("2026-11-23T12:00:00.000005"), '"2026-11-23T12:00:00.000005"'),
    (np.datetime64("NaT", "D"), "null"),
    (np.array(["2026-11-23", "NaT"], dtype="datetime64[D]"), '["2026-11-23",null]'),
    (np.timedelta64(90, "s"), '"PT90S"'),
    (np.datetime64("2026-11-23T12:00:00.5", "ns"), '"2026-11-23T12:00:00.500000"'),
    (np.datetime64("2026-11-23T12:00:00.123456789"), '"2026-11-23T12:00:00.123456789"'),
    (np.datetime64("NaT", "ns"), "null"),
    (np.timedelta64(3_000, "ns"), '"PT0.000003S"'),
    (np.timedelta64("NaT", "ns"), "null"),
    (np.array(["NaT", "2026-11-23"], dtype="M8[ns]"), '[null,"2026-11-23T00:00:00"]'),
    (np.array([["2026-11-23"]], dtype="M8[ns]"), '[["2026-11-23T00:00:00"]]'),
    (np.array("2026-11-23", dtype="M8[ns]"), '"2026-11-23T00:00:00"'),
    # pandas
    (pd.NA, "null"),
    (pd.NaT, "null"),
    (pd.Timestamp("2026-11-23T12:00:00"), '"2026-11-23T12:00:00"'),
    (pd.Timestamp("2026-11-23T12:00:00.123456789Z"), '"2026-11-23T12:00:00.123456789Z"'),
    (pd.Timestamp("2026-11-23T12:00", tz=EAST), '"2026-11-23T12:00:00+05:30"'),
    (pd.Timedelta(seconds=90), '"PT90S"'),
    (pd.Timedelta(1_500, "ns"), '"P0DT0H0M0.0000015S"'),
    (pd.Series([1, None])[0], "1.0"),
    (pd.Series([1, None])[1], "null"),
    (pd.Series([1, None], dtype="Int64")[0], "1"),
    (pd.Series([1, None], dtype="Int64")[1], "null"),
    # a number of a class of its own
    (Indexed(), "5"),
    # Django
    (mark_safe("<b>"), '"<b>"'),
    (lazystr("later"), '"later"'),
    (LocalProxy(lambda: [1, ODD]), "[1,null]"),
]

#: Each key's name.
KEYS = [
    ("", ""),
    ("a.b", "a.b"),
    (1, "1"),
    (-(10**30), "-1" + "0" * 30),
    (1.5, "1.5"),
    (1e22, "1e22"),
    (Decimal("1.10"), "1.10"),
    (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (date(2026, 11, 23), "2026-11-23"),
    (NOON, "2026-11-23T12:00:00.005000"),
    (NOON.replace(tzinfo=UTC), "2026-11-23T12:00:00.005000Z"),
    (time(7), "07:00:00"),
    (timedelta(days=1), "P1D"),
    (b"a", "YQ=="),
    (Kind.TEXT, "text"),
    (Kind.NUMBER, "2"),
    (Level.HIGH, "3"),
    (Color.RED, "red"),
    (Text("right"), "right"),
    (Int(5), "5"),
    (np.int64(4), "4"),
    (np.str_("x"), "x"),
    (np.float64(1.5), "1.5"),
    (mark_safe("<b>"), "<b>"),
    (lazystr("later"), "later"),
    (SimpleLazyObject(lambda: 5), "5"),
    (np.datetime64("2026-11-23"), "2026-11-23"),
    (pd.Timestamp("2026-11-23T12:00Z"), "2026-11-23T12:00:00Z"),
    (ip_address("192.0.2.1"), "192.0.2.1"),
    (PurePosixPath("/srv/a"), "/srv/a"),
    (pydantic.SecretStr("s3cret"), "**********"),
]


# ---------------------------------------------------------------- forms


@pytest.mark.parametrize(
    ("value", "expected"),
    FORMS,
    ids=[f"{type(value).__name__}-{text}"[:60] for value, text in FORMS],
)
def test_forms(value, expected):
    before = repr(value)
    alone = raw({"a": value})["a"]
    if expected is not None:
        assert alone == expected
    # What else the message holds changes nothing.
    assert raw({"a": value, "odd": ODD}) == {"a": alone, "odd": "null"}
    assert encoding.encode_value(value).decode() == alone
    assert repr(value) == before


def test_forms_of_many_parts():
    digits = "0.1000000000000000000000000000000000000001"
    assert raw({"a": Decimal(digits)})["a"] == digits
    assert json.loads(raw({"a": collections.ChainMap({"a": 1}, {"b": 2})})["a"]) == {"a": 1, "b": 2}
    mixed = np.array([1, "a", None, UUID(int=0)], dtype=object)
    assert json.loads(raw({"a": mixed})["a"]) == [1, "a", None, str(UUID(int=0))]
    assert sorted(json.loads(raw({"a": {3, 1, 2}})["a"])) == [1, 2, 3]


@pytest.mark.parametrize(("key", "name"), KEYS, ids=lambda key: f"{type(key).__name__}-{key}")
@pytest.mark.parametrize(
    "wrap", [lambda d: d, MappingProxyType, Dict], ids=["dict", "proxy", "sub"]
)
def test_keys(key, name, wrap):
    assert json.loads(raw({"a": wrap({key: 1})})["a"]) == {name: 1}
    assert json.loads(raw({"a": wrap({key: 1}), "odd": ODD})["a"]) == {name: 1}
    assert json.loads(encoding._to_json(message({key: 1})))["properties"] == {name: 1}


def test_keys_that_are_no_numbers_are_still_names():
    for key in (float("nan"), float("inf"), Decimal("NaN")):
        (name,) = json.loads(raw({"a": {key: 1}})["a"])
        assert isinstance(name, str)


def test_djangos_translated_text():
    # In a process of its own: Django's settings and translations are global.
    program = (
        "from django.conf import settings; settings.configure(USE_I18N=False)\n"
        "from django.utils.translation import gettext_lazy, pgettext_lazy\n"
        "from celery_segment import messages\n"
        "message = messages.Track(message_id='m', timestamp='t', event='E', properties={\n"
        "    'a': gettext_lazy('Hello'), 'b': [pgettext_lazy('month', 'May')],\n"
        "    gettext_lazy('key'): float('nan')})\n"
        "print(messages.encode(message).decode())"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert json.loads(run.stdout)["properties"] == {"a": "Hello", "b": ["May"], "key": None}
