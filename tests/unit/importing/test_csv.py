"""Rows of CSV become messages, or are rejected."""

from __future__ import annotations

import pytest

from celery_segment.errors import ImportRefused
from celery_segment.importing.lines import MAX_LINE_BYTES
from records import TRACK, WHEN, ndjson, one, read, refusal, table

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
        ("userId,evnt", "column 'evnt' is not a field of a message"),
        (",userId", "column '' is not a field of a message"),
        ("userId,properties.", "column 'properties.' is not a field"),
        ("userId,properties..x", "column 'properties..x' is not a field"),
        ("userId.x,event", "column 'userId.x' is not a field"),
        ("message.x", "column 'message.x' is not a field"),
        ("userId;event", "column 'userId;event' is not a field"),
        ("userId,user_id", "column 'user_id' appears twice, or is part of another"),
        ("properties,properties.x", "column 'properties.x' appears twice, or is part of another"),
        ("properties.x,properties", "column 'properties' appears twice, or is part of another"),
        ("traits.a.b,traits.a", "column 'traits.a' appears twice, or is part of another"),
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
