"""A batch becomes an HTTP request."""

from __future__ import annotations

import base64
import gzip
import json
import re
import zlib
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_segment import __version__
from celery_segment.buffer import ENVELOPE, body, connect, messages_of
from celery_segment.buffer.appends import Appends
from celery_segment.config import Source, WriteKey
from celery_segment.config.parsers import MAX_WRITE_KEY, write_key
from celery_segment.config.source import MIN_BATCH_BYTES
from celery_segment.delivery.authorization import by_token, by_write_key
from celery_segment.delivery.request import build
from celery_segment.messages import MAX_MESSAGE_BYTES

UTC = timezone.utc
KEY = "s3cretwr1tek3y"
NOW = datetime(2026, 11, 23, 7, 0, 9, 456_789, tzinfo=UTC)
MESSAGES = [b'{"a":1}', '{"é":"漢🦓","n":1.10}'.encode(), b'{"a":"},{","b":[1,2]}']
STORED = b"".join(message + b"," for message in MESSAGES)


def source(**own):
    return Source(name="default", write_key=WriteKey(KEY), **own)


def post(stored=STORED, requests=0, now=NOW, **own):
    return build(source(**own), by_write_key(WriteKey(KEY)), stored, requests, now)


@pytest.fixture(params=["isal", "zlib"])
def compressor(request, monkeypatch):
    """Compress with ISA-L, and as on a platform without its wheel."""
    if request.param == "zlib":
        monkeypatch.setattr(body, "deflate", lambda: zlib)
    else:
        assert body.deflate() is not zlib
    return request.param


def test_the_body_is_the_stored_bytes_in_their_envelope():
    body = post(gzip=False).data
    inner = b",".join(MESSAGES)
    assert body == b'{"batch":[' + inner + b'],"sentAt":"2026-11-23T07:00:09.456Z"}'
    content = json.loads(body)
    assert content["batch"] == [json.loads(message) for message in MESSAGES]
    assert list(content) == ["batch", "sentAt"]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8"))
        ),
        min_size=1,
        max_size=5,
    ),
    st.booleans(),
)
def test_whatever_is_stored_is_sent_byte_for_byte(messages, compress):
    encoded = [json.dumps(m, ensure_ascii=False).encode() for m in messages]
    request = post(b"".join(e + b"," for e in encoded), gzip=compress)
    body = gzip.decompress(request.data) if compress else request.data
    assert json.loads(body)["batch"] == messages
    assert body.partition(b",".join(encoded))[::2] == (
        b'{"batch":[',
        b'],"sentAt":"2026-11-23T07:00:09.456Z"}',
    )


@pytest.mark.parametrize(
    ("now", "sent_at"),
    [
        (datetime(2026, 11, 23, 7, 0, tzinfo=UTC), "2026-11-23T07:00:00.000Z"),
        (datetime(2026, 11, 23, 7, 0, 0, 999_999, tzinfo=UTC), "2026-11-23T07:00:00.999Z"),
        (
            datetime(2026, 11, 23, 7, 0, tzinfo=timezone(timedelta(hours=5, minutes=30))),
            "2026-11-23T01:30:00.000Z",
        ),
        (
            datetime(2026, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=1))),
            "2025-12-31T23:30:00.000Z",
        ),
    ],
)
def test_sent_at_is_utc_in_milliseconds(now, sent_at):
    assert json.loads(post(now=now, gzip=False).data)["sentAt"] == sent_at


@pytest.mark.usefixtures("compressor")
@pytest.mark.parametrize("key", [KEY, 'quo"te\\'])
def test_with_a_token_the_write_key_is_in_the_body(key):
    authorization = by_token("t0k3n", WriteKey(key))
    for stored in (STORED, body.compressed(STORED)):
        for compress in (True, False):
            request = build(source(gzip=compress), authorization, stored, 0, NOW)
            assert request.headers["Authorization"] == "Bearer t0k3n"
            data = gzip.decompress(request.data) if compress else request.data
            content = json.loads(data)
            assert list(content) == ["batch", "sentAt", "writeKey"]
            assert content["writeKey"] == key
            assert content["batch"] == [json.loads(message) for message in MESSAGES]
            assert content["sentAt"] == "2026-11-23T07:00:09.456Z"


@pytest.mark.parametrize(
    "authorization", [by_token("t0k3n", WriteKey(KEY)), by_write_key(WriteKey(KEY))]
)
def test_an_authorization_shows_nothing(authorization):
    assert repr(authorization) == "Authorization()"
    assert all(KEY not in text for text in (str(authorization), f"{authorization!a}"))
    assert len(authorization.secrets) == 2


def test_every_attempt_has_its_own_sent_at_and_the_same_messages():
    first = json.loads(post(gzip=False).data)
    second = json.loads(post(gzip=False, requests=1, now=NOW + timedelta(seconds=1)).data)
    assert second["sentAt"] == "2026-11-23T07:00:10.456Z" != first["sentAt"]
    assert second["batch"] == first["batch"]


@pytest.mark.usefixtures("compressor")
def test_the_headers_of_a_first_attempt():
    request = post()
    assert request.url == "https://api.segment.io/v1/batch"
    assert request.headers == {
        "Authorization": "Basic " + base64.b64encode(f"{KEY}:".encode()).decode(),
        "Content-Type": "application/json",
        "Content-Encoding": "gzip",
        "User-Agent": f"celery-segment/{__version__}",
    }
    assert re.fullmatch(r"celery-segment/\d+\.\d+\.\d+\S*", request.headers["User-Agent"])
    assert "Content-Encoding" not in post(gzip=False).headers


@pytest.mark.parametrize("requests", [1, 2, 11, 1_000])
def test_a_repeated_attempt_counts_itself(requests):
    assert post(requests=requests).headers["X-Retry-Count"] == str(requests)
    assert "X-Retry-Count" not in post(requests=0).headers


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("https://events.eu1.segmentapis.com", "https://events.eu1.segmentapis.com/v1/batch"),
        ("http://127.0.0.1:8765", "http://127.0.0.1:8765/v1/batch"),
        ("https://gateway.example/segment", "https://gateway.example/segment/v1/batch"),
    ],
)
def test_the_address(host, url):
    assert post(host=host).url == url


@pytest.mark.usefixtures("compressor")
def test_gzip():
    stored = STORED * 1_000
    request = post(stored)
    plain = post(stored, gzip=False).data
    assert gzip.decompress(request.data) == plain
    assert zlib.decompress(request.data, wbits=31) == plain
    assert len(request.data) < len(plain) / 10
    # The same bytes at each build: no clock in the gzip header.
    assert post(stored).data == request.data
    assert request.data[4:8] == bytes(4)


def test_its_repr_shows_neither_key_nor_payload():
    request = post(b'{"email":"jane@example.com"},', gzip=False)
    assert b"jane@example.com" in request.data
    token = base64.b64encode(f"{KEY}:".encode()).decode()
    assert request.headers["Authorization"].endswith(token)
    for text in (repr(request), str(request), f"{request}"):
        assert "https://api.segment.io" in text
        assert "jane" not in text
        assert KEY not in text
        assert token not in text


# ---------------------------------------------------------------- sizes


def most(one):
    """The greatest size of a stored batch, each message's comma included."""
    return Appends(connect("redis://localhost:1/0", 1.0).server(""), one)._limits[0]


def message(size):
    return b'{"pad":"' + b"x" * (size - 10) + b'"}'


@pytest.mark.parametrize("limit", [33_000, 400_000, 458_000])
@pytest.mark.parametrize(
    "now", [NOW, datetime(1, 1, 1, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]
)
def test_a_full_batch_makes_a_body_of_exactly_the_limit(limit, now):
    room = most(source(max_batch_bytes=limit))
    each = 1_000
    count = room // each - 1
    stored = (message(each - 1) + b",") * count
    stored += message(room - len(stored) - 1) + b","
    assert len(stored) == room
    body = post(stored, now=now, gzip=False, max_batch_bytes=limit).data
    assert len(body) == limit
    assert len(json.loads(body)["batch"]) == count + 1


def test_a_batch_is_filled_to_what_redis_stores_without_waste():
    assert most(source(max_batch_bytes=500_000)) == most(source(max_batch_bytes=475_000))
    assert 458_000 < most(source(max_batch_bytes=500_000)) < 448 * 1024


def test_with_oauth_the_longest_write_key_fits_beside_the_largest_batch():
    key = write_key('"' * MAX_WRITE_KEY)  # each a "\\""
    stored = b"x" * (most(source(max_batch_bytes=500_000)) - 1) + b","
    body = build(source(gzip=False), by_token("token", key), stored, 0, NOW).data
    assert len(body) < 500_000


def test_the_smallest_batch_holds_the_greatest_message():
    room = most(source(max_batch_bytes=MIN_BATCH_BYTES))
    stored = message(MAX_MESSAGE_BYTES) + b","
    assert len(stored) <= room
    assert len(post(stored, gzip=False).data) <= MIN_BATCH_BYTES


def test_the_envelope_around_nothing_is_json():
    opening, closing = ENVELOPE
    assert json.loads(opening + closing).keys() == {"batch", "sentAt"}


def test_a_stored_batch_is_read_back_message_by_message():
    assert [bytes(part) for part in messages_of(STORED)] == MESSAGES
