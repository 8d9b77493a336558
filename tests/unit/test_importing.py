"""Lines become messages, or are rejected: all of an import that needs no server."""

from __future__ import annotations

import io
import json
import math
import re
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_segment import ValidationError, messages
from celery_segment.errors import ImportRefused
from celery_segment.importing import reading
from celery_segment.importing.ids import Ids
from celery_segment.importing.inputs import format_of
from celery_segment.importing.lines import MAX_LINE_BYTES, lines_of
from celery_segment.importing.ndjson import NDJSON
from celery_segment.importing.reading import START, Position, chunks
from celery_segment.importing.table import CSV
from celery_segment.messages.fields import MAX_MESSAGE_ID

ROOT = Path(__file__).parents[2]
ONE_OF = "must be one of identify, track, page, screen, group, alias, not"
WHEN = "2025-03-01T07:00:00.123Z"
TRACK = {"type": "track", "userId": "u", "event": "E", "timestamp": WHEN}


def opened(data: bytes) -> io.BufferedReader:
    return io.BufferedReader(io.BytesIO(data))


def ndjson(data: bytes, default_type=None):
    return NDJSON(lines_of(opened(data)), default_type)


def table(data, default_type="track", texts=()):
    data = data.encode() if isinstance(data, str) else data
    return CSV(lines_of(opened(data)), default_type, texts)


def chunks_of(records, after=START, encode=messages.encode):
    return chunks("default", records, encode, after)


def read(records):
    """Read all records; return the messages, and what was rejected."""
    taken, rejected = [], []
    for chunk in chunks_of(records):
        taken += [json.loads(data) for data in chunk.messages]
        rejected += chunk.rejected
    return taken, rejected


def one(records):
    """Return the one message that there is, without what is in every message."""
    taken, rejected = read(records)
    assert rejected == []
    (message,) = taken
    del message["context"]["library"]
    return {name: value for name, value in message.items() if value != {}}


def refusal(records):
    """Return the field and the reason of the one record that there is."""
    taken, rejected = read(records)
    assert taken == []
    (only,) = rejected
    return only.field, only.reason


def line(**fields) -> bytes:
    return json.dumps({**TRACK, **fields}).encode()


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
        (line(type="trak"), "type", f"{ONE_OF} 'trak'"),
        (line(type=None), "type", f"{ONE_OF} None"),
        (line(type=7), "type", f"{ONE_OF} 7"),
        (line(type={"a": 1}), "type", f"{ONE_OF} {{'a': 1}}"),
        (line(timestamp=None), "timestamp", "is required by an import"),
        (line(timestamp="yesterday"), "timestamp", "'yesterday' is not ISO 8601"),
        (line(timestamp="2025-03-01"), "timestamp", "'2025-03-01' is not ISO 8601"),
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
        (line(propertys={}), "propertys", "is no field of track"),
        (line(type="identify"), "event", "is no field of identify"),
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
def test_whatever_a_line_holds_it_is_rejected_at_the_most(content):
    parse = ndjson(b"").parse
    with pytest.raises(ValidationError):
        parse(content, lambda _: "import-1")


# ---------------------------------------------------------------- CSV

HEADER = "userId,event,timestamp,properties.revenue,properties.item.sku,context.app.version\n"


def test_columns_are_fields_and_dots_make_objects():
    record = f"007,E,{WHEN},39.90,A-1,1.10\n"
    found = one(table(HEADER + record))
    del found["messageId"]
    assert found == {
        **TRACK,
        "userId": "007",
        "properties": {"revenue": 39.9, "item": {"sku": "A-1"}},
        "context": {"app": {"version": "1.10"}},
    }


def test_the_calls_own_names_are_columns_too():
    header = "type,user_id,group_id,timestamp,traits.plan,message_id\n"
    found = one(table(f"{header}group,u,g,{WHEN},pro,m", default_type=None))
    assert found == {
        "type": "group",
        "userId": "u",
        "groupId": "g",
        "timestamp": WHEN,
        "messageId": "m",
        "traits": {"plan": "pro"},
    }


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("", None),
        ("text", "text"),
        (" 5", " 5"),
        ("5", 5),
        ("-5", -5),
        ("0", 0),
        ("0.5", 0.5),
        ("39.90", 39.9),
        ("123456789012345", 123456789012345),
        ("1234567890123456", "1234567890123456"),
        ("1234567890.123456", "1234567890.123456"),
        ("007", "007"),
        ("+49151", "+49151"),
        ("1e5", "1e5"),
        (".5", ".5"),
        ("5.", "5."),
        ("1,5", "1,5"),
        ("1_000", "1_000"),
        ("٣", "٣"),  # a digit, though none of JSON
        ("NaN", "NaN"),
        ("null", "null"),
        ("true", True),
        ("false", False),
        ("True", "True"),
        ('{"a":1}', '{"a":1}'),
    ],
)
def test_how_the_cells_of_properties_and_traits_are_typed(cell, value):
    quoted = '"' + cell.replace('"', '""') + '"'
    header = "userId,event,timestamp,properties.x,context.x,integrations.x\n"
    found = one(table(f"{header}u,E,{WHEN},{quoted},{quoted},{quoted}\n"))
    assert found.get("properties", {}).get("x") == value
    assert type(found.get("properties", {}).get("x")) is type(value)
    # Elsewhere a number is a version, more often than not.
    plain = value if isinstance(value, bool) else cell or None
    assert found["context"].get("x") == plain if plain is not None else "context" not in found
    found = one(table(f"{header}u,E,{WHEN},{quoted},,\n", texts=["properties.x"]))
    assert found.get("properties", {}).get("x") == (cell or None)


def test_a_whole_object_is_json():
    header = "userId,event,timestamp,properties,context\n"
    record = f'u,E,{WHEN},"{{""items"":[1.50,{{""a"":null}}]}}",\n'
    assert one(table(header + record))["properties"] == {"items": [1.5, {"a": None}]}
    bad = refusal(table(f"{header}u,E,{WHEN},[1],"))
    assert bad == ("properties", "is not a JSON object: Expected `object`, got `array`")


def test_records_are_of_one_line_or_several():
    header = "﻿userId,event,timestamp,properties.text\r\n"
    text = 'one\r\n\r\n"two", three\n'
    quoted = '"' + text.replace('"', '""') + '"'
    data = f'{header}\r\nu,"E",{WHEN},{quoted}\r\n\nu,F,{WHEN},\r\nu,G,{WHEN},"last"'
    taken, rejected = read(table(data))
    assert rejected == []
    assert [m["event"] for m in taken] == ["E", "F", "G"]
    assert [m.get("properties") for m in taken] == [{"text": text}, None, {"text": "last"}]


def test_a_stray_quote_costs_its_own_record_alone():
    records = [
        f"u,1,{WHEN},x",
        f'u,2,{WHEN},"open',
        f"u,3,{WHEN},x",
        f'u,4,{WHEN},5" pipe',
        f'u,5,{WHEN},"closed"',
        f'u,6,{WHEN},"open',
    ]
    taken, rejected = read(table("userId,event,timestamp,properties.x\n" + "\n".join(records)))
    assert [m["event"] for m in taken] == ["1", "3", "4", "5"]
    assert taken[2]["properties"] == {"x": '5" pipe'}
    assert [(r.line, r.reason) for r in rejected] == [
        (3, "is not CSV: unexpected end of data"),
        (7, "is not CSV: unexpected end of data"),
    ]


@pytest.mark.parametrize(
    ("record", "field", "reason"),
    [
        ("u,E", "", "has 2 cells and the header 4"),
        (f"u,E,{WHEN},,", "", "has 5 cells and the header 4"),
        (f'u,"E"x,{WHEN},', "", "is not CSV: "),
        (f"u,,{WHEN},", "event", "is required by track"),
        ("u,E,,", "timestamp", "is required by an import"),
        (b"u,\xff,,", "", "is not UTF-8 (byte 2: "),
        (f"u,E,{WHEN}," + "x" * MAX_LINE_BYTES, "", "is longer than 262,144 bytes"),
        (f"u,E,{WHEN}," + "x" * 140_000, "", "is not CSV: field larger than field limit"),
        (f"u,E,{WHEN}," + "x" * 40_000, "properties", "the message has 40,"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_rejected_record_names_its_field_and_the_reason(record, field, reason):
    record = record.encode() if isinstance(record, str) else record
    found = refusal(table(b"userId,event,timestamp,properties.x\n" + record))
    assert (found[0], found[1][: len(reason)]) == (field, reason)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("userId,evnt", "column 'evnt' is no field of a message"),
        (",userId", "column '' is no field of a message"),
        ("userId,properties.", "column 'properties.' is no field"),
        ("userId,properties..x", "column 'properties..x' is no field"),
        ("userId.x,event", "column 'userId.x' is no field"),
        ("message.x", "column 'message.x' is no field"),
        ("userId;event", "column 'userId;event' is no field"),
        ("userId,user_id", "column 'user_id' is there twice, or is part of another"),
        ("properties,properties.x", "column 'properties.x' is there twice, or is part of another"),
        ("properties.x,properties", "column 'properties' is there twice, or is part of another"),
        ("traits.a.b,traits.a", "column 'traits.a' is there twice, or is part of another"),
        ('"userId', "the header is not CSV: unexpected end of data"),
        (b"userId,\xff", "the header is not UTF-8"),
    ],
)
def test_a_header_that_is_none_is_refused(header, reason):
    with pytest.raises(ImportRefused) as caught:
        table(header)
    assert str(caught.value).startswith(reason)


def test_a_column_of_texts_must_be_there():
    with pytest.raises(ImportRefused, match=r"there is no column 'properties\.y'"):
        table("userId,properties.x", texts=["properties.y"])


def test_columns_that_segment_adds_are_left_out():
    found = one(table(f" userId ,event,timestamp,receivedAt\nu,E,{WHEN},{WHEN}"))
    assert set(found) == {*TRACK, "messageId"}


def test_a_file_without_a_line_has_no_records():
    assert read(table("")) == read(table("userId,event\n")) == read(ndjson(b"\n\n")) == ([], [])


# ---------------------------------------------------------------- ids


def ids_of(*given_lines, scope=("default", "")):
    made = Ids(*scope)
    return [made.next(each) for each in given_lines]


def test_the_same_line_has_the_same_id_in_any_file():
    (a, b), (c, d) = ids_of(b"a", b"b"), ids_of(b"b", b"a")
    assert (a, b) == (d, c)
    assert a != b
    assert ids_of(b"a") != ids_of(b"a", scope=("marketing", ""))
    assert all(len(each) <= MAX_MESSAGE_ID for each in (a, b))


def test_ids_stay_what_they_are():
    """What one release imported is deduplicated when the next imports it again."""
    assert ids_of(b"a", b"a") == [
        "import-f6b027959590344b81c4dc9c3d964243",
        "import-f6b027959590344b81c4dc9c3d964243-2",
    ]


def test_equal_lines_of_one_file_stay_several():
    first, second, other, third = ids_of(b"a", b"a", b"b", b"a")
    assert [second, third] == [f"{first}-2", f"{first}-3"]
    assert other != first
    many = ids_of(*[b"a"] * 1_000, *(b"%d" % n for n in range(100_000)))
    assert len(set(many)) == 101_000


def test_a_line_has_the_same_id_however_it_ends():
    plain, windows = (
        [m["messageId"] for m in read(ndjson(end.join([line(), line(userId="v")])))[0]]
        for end in (b"\n", b"\r\n")
    )
    assert plain == windows


# ---------------------------------------------------------------- lines and positions


def test_lines_have_numbers_and_ends():
    data = b"\xef\xbb\xbfa\r\n\nb\n  \nc"
    assert list(lines_of(opened(data))) == [
        (1, 6, b"a\r\n"),
        (2, 7, b"\n"),
        (3, 9, b"b\n"),
        (4, 12, b"  \n"),
        (5, 13, b"c"),
    ]


@pytest.mark.parametrize("extra", [0, 1, 2, MAX_LINE_BYTES, 3 * MAX_LINE_BYTES + 7])
def test_an_endless_line_is_passed_over_without_being_held(extra):
    long = b"x" * (MAX_LINE_BYTES + extra)
    first, second = lines_of(opened(long + b"\nb"))
    assert first[:2] == (1, len(long) + 1)
    assert len(first[2]) <= MAX_LINE_BYTES + 1
    assert second == (2, len(long) + 2, b"b")


MIXED = b"\n".join(
    [line(), line(), b"bad", b"", line(userId="v", messageId="m"), line(), b"bad", line(event="x")]
)
TABLE = f"""userId,event,timestamp
u,E,{WHEN}
u,"a

b",{WHEN}
u,E,{WHEN}
bad
u,"E,{WHEN}
u,F,{WHEN}"""


@pytest.mark.parametrize(
    "records", [lambda: ndjson(MIXED), lambda: table(TABLE)], ids=["ndjson", "csv"]
)
def test_from_any_position_the_rest_is_read_as_it_would_have_been(records, monkeypatch):
    monkeypatch.setattr(reading, "CHUNK_RECORDS", 1)
    all_of_them = list(chunks_of(records()))
    assert {len(chunk.messages) + len(chunk.rejected) for chunk in all_of_them} == {1}
    assert len(all_of_them) >= 6
    for number, chunk in enumerate(all_of_them, 1):
        assert list(chunks_of(records(), chunk.end)) == all_of_them[number:]


def test_a_position_in_another_file_is_refused():
    *_, last = chunks_of(ndjson(line() + b"\n" + line(userId="v")))
    for other in (
        line() + b"\n" + line(userId="w") + b"\n" + line(),
        line() + b"\n" + line(userId="longer") + b"\n" + line(),
        line() + b"\n" + line(userId=""),
        line(),
        b"",
    ):
        with pytest.raises(ImportRefused, match="line 2 is not what it was"):
            list(chunks_of(ndjson(other), last.end))


def test_chunks_are_bounded_in_bytes_too(monkeypatch):
    monkeypatch.setattr(reading, "CHUNK_BYTES", 3 * len(line()))
    found = list(chunks_of(ndjson(b"\n".join([line()] * 8))))
    assert [len(chunk.messages) for chunk in found] == [3, 3, 2]
    assert found[-1].end == Position(8, 8 * len(line()) + 7, found[-1].end.digest)


def test_a_message_may_be_dropped():
    records = ndjson(line() + b"\n" + line(userId="v"))
    (chunk,) = chunks_of(records, encode=lambda m: None if m.user_id == "v" else messages.encode(m))
    assert (len(chunk.messages), chunk.dropped) == (1, 1)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a.ndjson", "ndjson"),
        ("b/a.b.jsonl.gz", "ndjson"),
        ("a.json", "ndjson"),
        ("a.csv", "csv"),
        ("a.csv.gz", "csv"),
    ],
)
def test_the_name_tells_the_format(name, found):
    assert format_of(name) == found


@pytest.mark.parametrize("name", ["-", "a", "a.gz", "a.parquet", "csv", "a.csv.bz2"])
def test_a_name_that_tells_no_format(name):
    with pytest.raises(ImportRefused, match="give --format, one of ndjson, csv"):
        format_of(name)
