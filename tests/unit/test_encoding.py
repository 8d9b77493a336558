"""Every Python value has its one JSON form, or is refused with its path."""

from __future__ import annotations

import collections
import dataclasses
import enum
import fractions
import inspect
import ipaddress
import json
import subprocess
import sys
from dataclasses import field
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import PurePosixPath
from types import MappingProxyType, SimpleNamespace
from typing import Any, ClassVar
from uuid import UUID, SafeUUID

import msgspec
import numpy as np
import pydantic
import pytest
from django.utils.datastructures import MultiValueDict
from django.utils.functional import lazystr
from django.utils.safestring import mark_safe
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_segment import ValidationError
from celery_segment.messages import Track, encoding

UTC = timezone.utc
#: A value that the encoder itself gets wrong, so that its message takes the slow road.
ODD = Decimal("NaN")


class Kind(enum.Enum):
    TEXT = "text"
    NUMBER = 2
    NOTHING = None
    PAIR = (1, float("nan"))
    INNER = {"a": [1]}  # noqa: RUF012 - an enum's value


class Level(enum.IntEnum):
    HIGH = 3


class Color(str, enum.Enum):
    RED = "red"


class Text(str):
    __slots__ = ()

    def __str__(self):
        return "wrong"


class Int(int):
    def __repr__(self):
        return "wrong"


class Float(float):
    def __repr__(self):
        return "wrong"


class Dict(dict):
    pass


class List(list):
    pass


class Stamp(datetime):
    """As pandas', pendulum's and freezegun's are."""


class Day(date):
    pass


class NaT(datetime):
    """As pandas' NaT is: a datetime that equals nothing."""

    def __eq__(self, other):
        return False

    def __hash__(self):
        return 0

    def isoformat(self, *_):
        return "NaT"


class Money(Decimal):
    pass


class Delta(timedelta):
    pass


class Id(UUID):
    pass


class Bytes(bytes):
    pass


Point = collections.namedtuple("Point", "x y")  # noqa: PYI024 - the plain one


@dataclasses.dataclass
class Data:
    constant: ClassVar[int] = 9
    once: dataclasses.InitVar[int] = 0
    a: Any = 1
    never: int = field(init=False, repr=False)


@dataclasses.dataclass(slots=True)
class Slots:
    a: Any


class Struct(msgspec.Struct, rename="camel"):
    some_name: Any
    left_out: Any = msgspec.UNSET


class Tagged(msgspec.Struct, tag="tagged", tag_field="kind"):
    a: Any


class Row(msgspec.Struct, array_like=True):
    a: Any
    b: Any


class Model(pydantic.BaseModel):
    a: int
    price: Decimal
    when: datetime
    ratio: float = float("nan")


class Root(pydantic.RootModel[list[int]]):
    pass


NOON = datetime(2026, 11, 23, 12, 0, 0, 5000)  # noqa: DTZ001
EAST = timezone(timedelta(hours=5, minutes=30))

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
        '{"a":1,"price":1.10,"when":"2026-11-23T12:00:00.005000Z","ratio":null}',
    ),
    (Root([1, 2]), "[1,2]"),
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
    # Django
    (mark_safe("<b>"), '"<b>"'),
    (lazystr("later"), '"later"'),
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
]


def message(properties):
    return Track(
        message_id="m", timestamp="2026-11-23T07:00:00.000Z", event="E", properties=properties
    )


def refuse_constant(text):
    raise AssertionError(f"{text} is not JSON")


def strictly(data):
    return json.loads(data.decode(), parse_constant=refuse_constant, parse_float=Decimal)


def raw(properties):
    """Return the JSON of each property, byte for byte."""
    data = encoding._to_json(message(properties))
    strictly(data)
    fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    parts = msgspec.json.decode(fields["properties"], type=dict[str, msgspec.Raw])
    return {name: bytes(part).decode() for name, part in parts.items()}


def refusal(properties):
    with pytest.raises(ValidationError) as caught:
        encoding._to_json(message(properties))
    return caught.value


def slowly(to_encode):
    """Encode a message on the slow road, whatever it holds."""
    return encoding._encoder.encode(encoding._plain_message(to_encode))


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


@pytest.mark.parametrize(("key", "name"), KEYS, ids=repr)
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


# ---------------------------------------------------------------- refusals


def generator():
    yield 1


class Permissive:
    """Has every attribute one asks for."""

    def __getattr__(self, name):
        return name


class Failing(collections.UserDict):
    def items(self):
        raise RuntimeError("secret")


class FailingModel(pydantic.BaseModel):
    def model_dump(self, **_):
        raise RuntimeError("secret")


class Nowhere(tzinfo):
    def utcoffset(self, _):
        raise RuntimeError("secret")


def released():
    view = memoryview(b"abc")
    view.release()
    return view


ROWS = np.array([(1, np.datetime64("2026-11-23", "ns"))], dtype=[("a", "i4"), ("b", "M8[ns]")])

REFUSED = [
    (object(), "object"),
    (generator(), "generator"),
    ((x for x in ()), "generator"),
    (map(str, []), "map"),
    (iter([]), "list_iterator"),
    (range(3), "range"),
    ({}.values(), "dict_values"),
    (len, "builtin_function_or_method"),
    (generator, "function"),
    (1j, "complex"),
    (np.complex128(1j), "complex"),
    (np.longdouble("1.1"), "longdouble"),
    (np.datetime64("2026-11-23T12:00:00.123456789"), "datetime64"),
    (np.array(["2026-11-23"], dtype="M8[ns]"), "ndarray"),
    (np.array(["NaT", "2026-11-23"], dtype="M8[ns]"), "ndarray"),
    (np.array([["NaT"], ["2026-11-23"]], dtype="M8[ns]"), "ndarray"),
    (np.timedelta64(3, "ns"), "timedelta64"),
    (ROWS, "ndarray"),
    (ROWS[0], "void"),
    (fractions.Fraction(1, 3), "Fraction"),
    (PurePosixPath("/x"), "PurePosixPath"),
    (ipaddress.ip_address("1.2.3.4"), "IPv4Address"),
    (ValueError("x"), "ValueError"),
    (SimpleNamespace(a=1), "SimpleNamespace"),
    (..., "ellipsis"),
    (int, "type"),
    (Data, "type"),
    (Kind, type(Kind).__name__),
    (Model, "ModelMetaclass"),
    (Struct, type(Struct).__name__),
    (Permissive(), "Permissive"),
    (Failing(a=1), "Failing"),
    (FailingModel(), "FailingModel"),
    (10**5000, "int"),
    (Int(10**5000), "int"),
    (NOON.replace(tzinfo=Nowhere()), "datetime"),
    (released(), "memoryview"),
    (msgspec.Raw(b"[1"), "Raw"),
]


@pytest.mark.parametrize(("value", "name"), REFUSED, ids=[name for _, name in REFUSED])
def test_what_has_no_json_form_is_refused_with_its_path(value, name):
    for properties, path in (
        ({"a": value}, "properties.a"),
        ({"a": {"b": [1, value]}}, "properties.a.b[1]"),
        ({"a": ({"b": value},)}, "properties.a[0].b"),
        ({1: {Kind.TEXT: value}}, "properties.1.text"),
        ({"a": Data(a=[value])}, "properties.a.a[0]"),
        ({"a": Struct(value)}, "properties.a.someName"),
    ):
        error = refusal(properties)
        assert error.field == path
        assert name in str(error)
        assert "convert it or leave it out" in str(error)
        assert "secret" not in str(error)


@pytest.mark.parametrize(
    "key",
    [
        *(None, True, False, (1, 2), frozenset(), Kind.NOTHING, Kind.PAIR, np.bool_(True)),
        *(object(), 1j, 10**5000, Data),
    ],
    ids=lambda key: type(key).__name__,
)
def test_what_is_no_key_is_refused_with_the_path_of_its_object(key):
    for properties, path in (
        ({key: 1}, "properties"),
        ({"a": [{key: 1}]}, "properties.a[0]"),
        ({"a": MappingProxyType({key: 1})}, "properties.a"),
    ):
        error = refusal(properties)
        assert error.field == path
        assert str(error) == (
            f"{path}: a key of type {type(key).__name__} has no JSON form: use a string"
        )


class Broken(str, enum.Enum):
    HALF = "\ud800"


@pytest.mark.parametrize(
    "text",
    [
        *("\ud800", "a\udfffb", "\ud83d\ude00", Text("\ud800"), Broken.HALF),
        *(np.str_("\ud800"), lazystr("\ud800"), collections.UserString("\ud800")),
    ],
    ids=lambda text: type(text).__name__,
)
def test_half_a_surrogate_pair_is_refused(text):
    for properties, path in (
        ({"a": text}, "properties.a"),
        ({"a": ["x", {"b": text}]}, "properties.a[1].b"),
        ({"odd": ODD, "a": {"b": [text]}}, "properties.a.b[0]"),
    ):
        error = refusal(properties)
        assert error.field == path
        assert "surrogate" in str(error)
        str(error).encode()


@pytest.mark.parametrize("key", ["\ud800", Text("\udfff"), Broken.HALF], ids=repr)
def test_half_a_surrogate_pair_in_a_key_is_refused(key):
    error = refusal({"a": {key: 1}})
    assert error.field == "properties.a (a key)"
    assert "surrogate" in str(error)
    str(error).encode()


# ---------------------------------------------------------------- depth and cycles


def nested(depth, wrap, inner=1):
    value = inner
    for _ in range(depth):
        value = wrap(value)
    return value


WRAPS = {
    "list": lambda v: [v],
    "tuple": lambda v: (1, v),
    "dict": lambda v: {"a": v},
    "proxy": lambda v: MappingProxyType({"a": v}),
    "deque": lambda v: collections.deque([v]),
    "dataclass": Slots,
    "struct": Struct,
}


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
@pytest.mark.parametrize("more", [{}, {"odd": ODD}], ids=["fast", "slow"])
@pytest.mark.parametrize("depth", [250, 800, 3_000])
def test_deeper_than_200_levels_is_refused_on_either_road(wrap, more, depth):
    # A worker's stack may be deeper than the caller's, and must still read the message.
    error = refusal({"a": nested(depth, wrap), **more})
    assert error.field == "properties"
    assert "deeper than 200 levels" in str(error)


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
@pytest.mark.parametrize("more", [{}, {"odd": ODD}], ids=["fast", "slow"])
def test_90_levels_pass_on_either_road(wrap, more):
    assert strictly(encoding._to_json(message({"a": nested(90, wrap), **more})))


def test_many_shallow_objects_pass():
    items = [{"sku": str(n), "tags": ["[", "{"]} for n in range(400)]
    assert json.loads(raw({"items": items})["items"]) == items


def cycles():
    items: list[Any] = []
    items.append(items)
    mapping: dict[str, Any] = {}
    mapping["a"] = [mapping]
    data = Slots(None)
    data.a = data
    queue: collections.deque[Any] = collections.deque()
    queue.append(queue)
    struct = Struct(None)
    struct.some_name = [struct]
    return [items, mapping, data, queue, struct]


@pytest.mark.parametrize("cycle", cycles(), ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("more", [{}, {"odd": ODD}], ids=["fast", "slow"])
def test_cycles_are_refused(cycle, more):
    error = refusal({"a": {"b": cycle}, **more})
    assert error.field == "properties"
    assert "holds itself" in str(error)


def test_on_a_deep_stack_a_deep_value_is_refused_and_a_flat_one_passes():
    deep = message({"a": nested(150, WRAPS["dict"], ODD)})

    def descend(levels):
        if levels:
            return descend(levels - 1)
        with pytest.raises(ValidationError) as caught:
            encoding._to_json(deep)
        return caught.value.field, encoding._to_json(message({"a": 1}))

    assert encoding._to_json(deep)
    left = sys.getrecursionlimit() - len(inspect.stack())
    refused, passed = descend(left - 120)
    assert refused == "properties"
    assert passed == encoding._to_json(message({"a": 1}))


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


@settings(max_examples=400, deadline=None)
@given(anything)
def test_whatever_comes_is_json_or_refused(properties):
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
