"""Arguments become a message, and a message its bytes."""

from __future__ import annotations

import copy
import enum
import inspect
import json
import pickle
import re
import time
import uuid
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu.utils import json as celery_json

from celery_segment import MessageTooLarge, SegmentError, ValidationError, __version__
from celery_segment.calls.api import CALLS
from celery_segment.messages import (
    MAX_MESSAGE_BYTES,
    Alias,
    Group,
    Identify,
    Page,
    Screen,
    Track,
    build_message,
    call_arguments,
    encode,
)

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
#: The order of the arguments, as DESIGN.md gives it.
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


@pytest.fixture
def zone(monkeypatch):
    """Set the machine's time zone until the test ends."""

    def set_zone(name):
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield set_zone
    monkeypatch.undo()
    time.tzset()


# ---------------------------------------------------------------- fields


@pytest.mark.parametrize("name", CALLS)
def test_every_field_reaches_the_wire(name):
    given, expected = full(name)
    assert wire(build_message(KINDS[name], **given)) == expected
    source, message = CALLS[name].build(**given, source="marketing")
    assert (source, wire(message)) == ("marketing", expected)


@pytest.mark.parametrize("name", CALLS)
def test_the_order_of_the_arguments_is_that_of_segments_own_library(name):
    parameters = inspect.signature(CALLS[name].build).parameters.values()
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == ORDER[name].split()
    assert [p.name for p in parameters if p.kind is p.KEYWORD_ONLY] == ["source"]
    given, expected = full(name)
    assert wire(CALLS[name].build(*[given[p] for p in positional])[1]) == expected


@pytest.mark.parametrize("name", CALLS)
def test_absent_fields_are_left_out(name):
    source, message = CALLS[name].build(**LEAST[name])
    sent = wire(message)
    minted, stamped = sent.pop("messageId"), sent.pop("timestamp")
    assert uuid.UUID(minted).version == 4
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stamped)
    names = {"user_id": "userId", "group_id": "groupId", "previous_id": "previousId"}
    own = {names.get(k, k): v for k, v in LEAST[name].items()}
    assert sent == {"type": name, **own, "context": {"library": LIBRARY}}
    assert source == "default"


def test_empty_objects_are_kept():
    sent = wire(track(properties={}, integrations={}, context={}))
    assert sent["properties"] == sent["integrations"] == {}
    assert sent["context"] == {"library": LIBRARY}


# ---------------------------------------------------------------- what must be given


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("track", "event"),
        ("group", "group_id"),
        ("alias", "previous_id"),
        ("alias", "user_id"),
    ],
)
@pytest.mark.parametrize("nothing", [None, "", Plain.NOTHING.value, Loud("")])
def test_a_required_field_that_is_missing_or_empty_is_named(name, missing, nothing):
    error = refusal(name, **{missing: nothing})
    assert error.field == missing
    assert str(error) == f"{missing}: is required by {name}"


@pytest.mark.parametrize("name", ["identify", "track", "page", "screen", "group"])
@pytest.mark.parametrize("nothing", [{}, {"user_id": ""}, {"user_id": None, "anonymous_id": ""}])
def test_an_identity_is_required(name, nothing):
    least = {k: v for k, v in LEAST[name].items() if k != "user_id"}
    with pytest.raises(ValidationError, match="give user_id or anonymous_id") as caught:
        build(name, **least, **nothing)
    assert caught.value.field == "user_id"


@pytest.mark.parametrize("name", ["identify", "track", "page", "screen", "group"])
def test_an_anonymous_identity_is_enough(name):
    least = {k: v for k, v in LEAST[name].items() if k != "user_id"}
    sent = wire(build(name, **least, anonymous_id="a"))
    assert sent["anonymousId"] == "a"
    assert "userId" not in sent


# ---------------------------------------------------------------- types

IDS = [("identify", "user_id"), ("identify", "anonymous_id"), ("group", "group_id")]
IDS += [("alias", "previous_id"), ("alias", "user_id")]
UUID4 = uuid.UUID("0c4d7c4e-9f0f-4d63-8f0c-0a1b2c3d4e5f")


@pytest.mark.parametrize(("name", "field"), IDS)
@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("019mr8mf4r", "019mr8mf4r"),
        ("Zoë 🦓", "Zoë 🦓"),
        (Loud("quiet"), "quiet"),
        (np.str_("np"), "np"),
        (Color.RED, "red"),
        (Plain.TEXT, "t"),
        (Plain.NUMBER, "7"),
        (0, "0"),
        (-5, "-5"),
        (10**30, "1" + "0" * 30),
        (3.0, "3"),
        (-0.0, "0"),
        (Decimal(3), "3"),
        (Decimal("3.0"), "3"),
        (Decimal("1E+30"), "1" + "0" * 30),
        (UUID4, str(UUID4)),
    ],
    ids=repr,
)
def test_ids_are_text(name, field, value, text):
    camel = re.sub("_(.)", lambda m: m[1].upper(), field)
    sent = wire(build(name, **{**LEAST[name], field: value}))
    assert sent[camel] == text
    assert type(sent[camel]) is str


@pytest.mark.parametrize(("name", "field"), IDS)
@pytest.mark.parametrize(
    "value",
    [
        True,
        False,
        1.5,
        float("nan"),
        float("inf"),
        Decimal("1.5"),
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("Infinity"),
        Decimal("-Infinity"),
        Decimal("1E+999999"),
        10**5000,
        b"bytes",
        ["list"],
        {"a": "dict"},
        ("tuple",),
        object(),
        Plain.NOTHING,
        datetime(2026, 1, 1, tzinfo=UTC),
    ],
    ids=lambda v: type(v).__name__,
)
def test_what_is_no_id_is_refused(name, field, value):
    error = refusal(name, **{field: value})
    assert error.field == field
    given = value.value if isinstance(value, enum.Enum) else value
    assert str(error) == (
        f"{field}: must be a string, a whole number or a UUID, not {type(given).__name__}"
    )


TEXTS = [("track", "event"), ("page", "name"), ("page", "category"), ("screen", "name")]
TEXTS += [("screen", "category")]


@pytest.mark.parametrize(("name", "field"), TEXTS)
def test_texts(name, field):
    assert wire(build(name, **{**LEAST[name], field: Color.RED}))[field] == "red"
    assert wire(build(name, **{**LEAST[name], field: Loud("quiet")}))[field] == "quiet"
    for value in (5, True, b"x", ["x"], {}, 1.5, UUID4, Plain.NUMBER):
        error = refusal(name, **{field: value})
        assert error.field == field
        given = value.value if isinstance(value, enum.Enum) else value
        assert str(error) == f"{field}: must be a string, not {type(given).__name__}"


OBJECTS = [(name, "context") for name in CALLS] + [(name, "integrations") for name in CALLS]
OBJECTS += [("identify", "traits"), ("group", "traits"), ("track", "properties")]
OBJECTS += [("page", "properties"), ("screen", "properties")]


@pytest.mark.parametrize(("name", "field"), OBJECTS)
@pytest.mark.parametrize("value", ["", "text", 0, 5, False, [], [1], (), b"", UUID4])
def test_what_is_no_object_is_refused(name, field, value):
    error = refusal(name, **{field: value})
    assert error.field == field
    assert str(error) == f"{field}: must be a dict, not {type(value).__name__}"


@pytest.mark.parametrize(("name", "field"), OBJECTS)
def test_any_mapping_is_an_object(name, field):
    sent = wire(build(name, **{**LEAST[name], field: MappingProxyType({"a": 1})}))
    assert sent[field]["a"] == 1


@pytest.mark.parametrize("field", ["user_id", "event", "message_id"])
def test_half_a_surrogate_pair_is_refused_by_field(field):
    error = refusal(**{field: "a\ud800"})
    assert error.field == field
    assert "surrogate" in str(error)


def test_a_refusal_is_a_value_error_that_survives_pickling():
    error = refusal(user_id=True)
    assert isinstance(error, ValueError)
    assert isinstance(error, SegmentError)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (again.field, again.problem, str(again)) == (error.field, error.problem, str(error))


# ---------------------------------------------------------------- timestamps


def stamp(value):
    return wire(track(timestamp=value))["timestamp"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (datetime(2026, 11, 23, 7, 0, tzinfo=UTC), "2026-11-23T07:00:00.000Z"),
        (datetime(2026, 11, 23, 7, 0, 0, 999999, tzinfo=UTC), "2026-11-23T07:00:00.999Z"),
        (datetime(2026, 11, 23, 7, 0, 0, 1999, tzinfo=UTC), "2026-11-23T07:00:00.001Z"),
        (
            datetime(2026, 11, 23, 7, 0, tzinfo=timezone(timedelta(hours=5, minutes=30))),
            "2026-11-23T01:30:00.000Z",
        ),
        (
            datetime(2026, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=2))),
            "2025-12-31T22:30:00.000Z",
        ),
        (datetime(2001, 2, 3, 4, 5, 6), "2001-02-03T04:05:06.000Z"),  # noqa: DTZ001
        (datetime.min, "0001-01-01T00:00:00.000Z"),  # noqa: DTZ901
        (datetime.max, "9999-12-31T23:59:59.999Z"),  # noqa: DTZ901
        (datetime.min.replace(tzinfo=UTC), "0001-01-01T00:00:00.000Z"),
        (datetime.max.replace(tzinfo=UTC), "9999-12-31T23:59:59.999Z"),
        (datetime(987, 6, 5, tzinfo=UTC), "0987-06-05T00:00:00.000Z"),
        ("2026-11-23T07:00:00.123Z", "2026-11-23T07:00:00.123Z"),
        ("2026-11-23T07:00:00Z", "2026-11-23T07:00:00.000Z"),
        ("2026-11-23 07:00:00.5+02:00", "2026-11-23T05:00:00.500Z"),
        ("2026-11-23T07:00:00.123456-00:30", "2026-11-23T07:30:00.123Z"),
        ("2001-02-03T04:05:06", "2001-02-03T04:05:06.000Z"),
        (Loud("2001-02-03T04:05:06Z"), "2001-02-03T04:05:06.000Z"),
    ],
)
@pytest.mark.parametrize("machine", ["UTC", "America/New_York", "Asia/Kathmandu"])
def test_timestamps_are_utc_in_milliseconds(zone, machine, value, expected):
    zone(machine)
    assert stamp(value) == expected


@pytest.mark.parametrize("machine", ["UTC", "America/New_York", "Asia/Kathmandu"])
@pytest.mark.parametrize("form", [lambda t: t, lambda t: t.isoformat()], ids=["datetime", "text"])
def test_a_naive_timestamp_near_now_is_local_time(zone, machine, form):
    zone(machine)
    before = datetime.now(UTC)
    sent = datetime.fromisoformat(stamp(form(datetime.now())).replace("Z", "+00:00"))  # noqa: DTZ005
    assert before - timedelta(milliseconds=1) <= sent <= datetime.now(UTC)


def test_a_naive_timestamp_ten_seconds_ago_is_utc(zone):
    zone("America/New_York")
    naive = (datetime.now() - timedelta(seconds=10)).replace(microsecond=0)  # noqa: DTZ005
    assert stamp(naive) == f"{naive.isoformat()}.000Z"


@pytest.mark.parametrize(
    ("value", "mend"),
    [
        (date(2026, 11, 23), "give it a time of day"),
        (1_700_000_000, "give a datetime"),
        (1_700_000_000.5, "give a datetime"),
        (True, "give a datetime"),
        (b"2026-11-23T07:00:00Z", "give a datetime"),
        (np.datetime64("2026-11-23"), "give a datetime"),
        ("", "is not ISO 8601"),
        ("yesterday", "is not ISO 8601"),
        ("2026-11-23", "is not ISO 8601"),
        ("2026-13-23T07:00:00Z", "is not ISO 8601"),
        ("2026-11-23T07:00:00+24:00", "is not ISO 8601"),
        ("1700000000", "is not ISO 8601"),
        ("\ud800", "is not ISO 8601"),
        ("x" * 10_000, "is not ISO 8601"),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=5))), "out of range"),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))), "out of range"),
        ("0001-01-01T00:00:00+05:00", "out of range"),
    ],
    ids=lambda v: repr(v)[:30],
)
def test_what_is_no_timestamp_is_refused(value, mend):
    error = refusal(timestamp=value)
    assert error.field == "timestamp"
    assert mend in str(error)
    assert len(str(error)) < 200


@pytest.mark.parametrize("machine", ["UTC", "America/New_York"])
def test_an_absent_timestamp_is_now(zone, machine):
    zone(machine)
    before = datetime.now(UTC)
    sent = datetime.fromisoformat(wire(track())["timestamp"].replace("Z", "+00:00"))
    assert before - timedelta(milliseconds=1) < sent <= datetime.now(UTC)


def test_the_clock_is_read_at_every_call(monkeypatch):
    seconds = [1_700_000_000.999, 1_700_000_001.0, 1_700_000_001.0015, 1_699_999_999.5]
    clock = iter(seconds)
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: next(clock))
        stamps = [track().timestamp for _ in seconds]
    assert stamps == [
        "2023-11-14T22:13:20.999Z",
        "2023-11-14T22:13:21.000Z",
        "2023-11-14T22:13:21.001Z",
        "2023-11-14T22:13:19.500Z",
    ]


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
        ("x" * 101, "has 101 characters and Segment takes 1 to 100"),
        ("", "has 0 characters and Segment takes 1 to 100"),
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


# ---------------------------------------------------------------- the greatest size


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


# ---------------------------------------------------------------- there and back

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
