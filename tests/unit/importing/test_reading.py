"""Lines, chunks, positions and formats of a file."""

from __future__ import annotations

import pytest

from celery_segment import messages
from celery_segment.errors import ImportRefused
from celery_segment.importing import reading
from celery_segment.importing.inputs import format_of
from celery_segment.importing.lines import MAX_LINE_BYTES, lines_of
from celery_segment.importing.reading import Position
from records import WHEN, chunks_of, line, ndjson, opened, table


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
        with pytest.raises(ImportRefused, match="line 2 has changed"):
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
