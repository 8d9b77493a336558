"""Lines of NDJSON become messages, or are rejected."""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_segment import ValidationError, messages
from celery_segment.importing.lines import MAX_LINE_BYTES
from records import ONE_OF, TRACK, WHEN, chunks_of, line, ndjson, one, read, refusal, table

ROOT = Path(__file__).parents[3]


# ---------------------------------------------------------------- NDJSON


COMMON = {"userId": "u", "anonymousId": "a", "timestamp": WHEN, "messageId": "m"}
COMMON = {**COMMON, "context": {"ip": "12.0.0.1"}, "integrations": {"All": False}}
OWN = {
    "identify": {"traits": {"plan": "pro"}},
    "track": {"event": "E", "properties": {"revenue": 39.95}},
    "page": {"category": "Docs", "name": "Start", "properties": {"url": "/"}},
    "screen": {"category": "Game", "name": "Start", "properties": {"level": 1}},
    "group": {"groupId": "g", "traits": {"size": 5}},
    "alias": {"previousId": "p"},
}


@pytest.mark.parametrize("kind", OWN)
def test_the_wire_form_and_the_calls_own_names(kind):
    on_the_wire = {"type": kind, **COMMON, **OWN[kind]}
    assert one(ndjson(json.dumps(on_the_wire).encode())) == on_the_wire
    named = {messages.ARGUMENTS.get(name, name): value for name, value in on_the_wire.items()}
    assert "user_id" in named
    assert one(ndjson(json.dumps(named).encode())) == on_the_wire


def test_null_is_as_good_as_absent():
    nothing = dict.fromkeys(("traits", "groupId", "previous_id", "name", "receivedAt"))
    assert one(ndjson(line(**nothing, messageId="m"))) == {**TRACK, "messageId": "m"}


def test_what_segment_adds_is_left_out():
    added = dict.fromkeys(("receivedAt", "sentAt", "originalTimestamp"), WHEN)
    added |= {"channel": "server", "version": 2, "projectId": "p", "_metadata": {}, "writeKey": "k"}
    assert one(ndjson(line(**added, messageId="m"))) == {**TRACK, "messageId": "m"}


def test_a_line_of_exported_dead_letters():
    content = {**TRACK, "messageId": "m", "context": {"library": {"name": "x"}}}
    exported = {"batch": "7.1", "buried": 1.5, "reason": "400", "message": content}
    assert one(ndjson(json.dumps(exported).encode())) == {**TRACK, "messageId": "m"}


def test_the_type_of_lines_without_one():
    without = {name: value for name, value in TRACK.items() if name != "type"}
    both = json.dumps(without).encode() + b"\n" + line()
    taken, rejected = read(ndjson(both, "track"))
    assert [m["type"] for m in taken] == ["track", "track"]
    assert rejected == []
    assert refusal(ndjson(json.dumps(without).encode()))[0] == "type"


def test_the_examples_of_the_page_are_taken():
    page = (ROOT / "docs/how-to/import.md").read_text("utf-8")
    objects, records, _ = re.findall(r"```(?:json|csv)\n(.*?)```", page, re.DOTALL)
    found, rejected = read(ndjson(objects.encode()))
    assert [m["type"] for m in found] == ["track", "identify"]
    assert rejected == []
    assert one(table(records, default_type=None))["properties"] == {
        "revenue": 39.9,
        "item": {"sku": "A-1"},
    }


def test_digits_are_kept():
    number = "1234567890.12345678901234567890"
    data = line(properties={"n": 0}).replace(b'"n": 0', b'"n": %b' % number.encode())
    (chunk,) = chunks_of(ndjson(data))
    assert number.encode() in chunk.messages[0]


@given(
    st.from_regex(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
)
def test_no_digit_of_any_number_is_lost(text):
    found = messages.decode(b'{"n":%b}' % text.encode())["n"]
    assert Decimal(repr(found) if isinstance(found, float) else found) == Decimal(text)


@pytest.mark.parametrize(
    ("content", "field", "reason"),
    [
        (b"{", "", "is not a JSON object"),
        (b'{"type": "track"', "", "is not a JSON object"),
        (b"[1]", "", "is not a JSON object: Expected `object`, got `array`"),
        (b'"text"', "", "is not a JSON object"),
        (b'{"type": NaN}', "", "is not a JSON object"),
        (b'{"a":' * 40_000 + b"1" + b"}" * 40_000, "", "is not a JSON object"),
        (b'{"type": "\xff"}', "", "is not UTF-8 (byte 10: invalid start byte)"),
        (b" " * MAX_LINE_BYTES + line(), "", "is longer than 262,144 bytes"),
        (line(type="trak"), "type", f"{ONE_OF} this text"),
        (line(type=None), "type", f"{ONE_OF} NoneType"),
        (line(type=7), "type", f"{ONE_OF} int"),
        (line(type={"a": 1}), "type", f"{ONE_OF} dict"),
        (line(timestamp=None), "timestamp", "is required by an import"),
        (line(timestamp="yesterday"), "timestamp", "this text of 9 characters is not ISO 8601"),
        (line(timestamp="2025-03-01"), "timestamp", "this text of 10 characters is not ISO 8601"),
        (line(timestamp=1_740_812_400), "timestamp", "must be a datetime, not int"),
        (line(userId=None), "user_id", "give user_id or anonymous_id"),
        (line(userId=True), "user_id", "must be a string, a whole number or a UUID"),
        (line(event=""), "event", "is required by track"),
        (line(event=None), "event", "is required by track"),
        (line(type="group", event=None), "group_id", "is required by group"),
        (line(type="alias", event=None), "previous_id", "is required by alias"),
        (line(properties=[1]), "properties", "must be a dict, not list"),
        (line(messageId="x" * 101), "message_id", "has 101 characters"),
        (line(messageId=""), "message_id", "has 0 characters"),
        (line(propertys={}), "propertys", "is not a field of track"),
        (line(type="identify"), "event", "is not a field of identify"),
        (line(user_id="v"), "user_id", "is given twice"),
        (line(properties={"a": "x" * 33_000}), "properties", "the message has 33,"),
        (line(properties={"a": json.loads("[" * 300 + "]" * 300)}), "properties", "is nested"),
    ],
    ids=lambda given: repr(given)[:40],
)
def test_a_rejected_line_names_its_field_and_the_reason(content, field, reason):
    found = refusal(ndjson(content))
    assert (found[0], found[1][: len(reason)]) == (field, reason)


def test_what_is_rejected_stops_nothing():
    data = b"\n".join([line(), b"nonsense", b"", line(event=""), b"  ", line(userId=7)])
    taken, rejected = read(ndjson(data))
    assert [m["userId"] for m in taken] == ["u", "7"]
    assert [(r.line, r.content) for r in rejected] == [(2, b"nonsense"), (4, line(event=""))]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False).filter(math.isfinite),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ids = st.sampled_from(["u", "", "é\U0001f600", 7, 1.0, 1.5, True, None]) | json_values
texts = st.sampled_from(["E", "", None, 5]) | json_values
objects = st.dictionaries(st.text(), json_values, max_size=4) | json_values
times = st.sampled_from(
    [
        *(WHEN, "2025-03-01T07:00:00Z", "2025-03-01 07:00:00.5+02:00", "2025-03-01T07:00:00"),
        *(
            "2025-03-01T07:00:60.000Z",
            "2025-03-01t07:00:00.123z",
            "2025-03-01",
            "",
            "x",
            5,
            "ab" * 12,
        ),
        *("2025-03-01T07:00:00.1234567Z", "0001-01-01T00:00:00+23:00", "2025-02-30T07:00:00.123Z"),
    ]
)
fields = {
    "user_id": ids,
    "anonymous_id": ids,
    "previous_id": ids,
    "group_id": ids,
    "event": texts,
    "category": texts,
    "name": texts,
    "properties": objects,
    "traits": objects,
    "context": objects,
    "integrations": objects,
    "message_id": st.text(max_size=120) | st.sampled_from(["x" * 100, "x" * 101, "é" * 100, 5]),
    "timestamp": times,
}
WIRE = {name: encoded for encoded, name in messages.ARGUMENTS.items()}


@st.composite
def calls(draw):
    kind = draw(st.sampled_from(list(messages.TYPES)))
    known = messages.TYPES[kind].__struct_fields__
    given_fields = draw(st.sets(st.sampled_from(known))) | {"timestamp"}
    return kind, {name: draw(fields[name]) for name in sorted(given_fields)}


@given(calls(), st.booleans())
def test_a_line_is_validated_as_the_call_is(call, on_the_wire):
    kind, arguments = call

    def outcome(make):
        try:
            return messages.encode(make())
        except ValidationError as error:
            return error.field, error.problem

    struct = messages.TYPES[kind]
    blank = dict.fromkeys(struct.__struct_fields__)
    called = outcome(
        lambda: messages.build_message(
            struct, **{**blank, "message_id": "import-1", **given_of(arguments)}
        )
    )
    names = WIRE if on_the_wire else dict(zip(WIRE, WIRE, strict=True))
    content = json.dumps({"type": kind, **{names[name]: v for name, v in arguments.items()}})
    parse = ndjson(b"").parse
    assert outcome(lambda: parse(content.encode(), lambda _: "import-1")) == called


def given_of(arguments):
    """Return the arguments as JSON brings them."""
    return {n: v for n, v in json.loads(json.dumps(arguments)).items() if v is not None}


@given(st.binary() | st.text().map(str.encode) | json_values.map(json.dumps).map(str.encode))
def test_any_line_is_taken_or_rejected(content):
    parse = ndjson(b"").parse
    with pytest.raises(ValidationError):
        parse(content, lambda _: "import-1")
