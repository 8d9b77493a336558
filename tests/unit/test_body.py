"""A compressed batch is, without being decompressed, the request body that it would have been."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_segment.buffer import body, is_intact, messages_of
from celery_segment.buffer.body import ENVELOPE, compressed, decompressed, gzip_body, is_compressed

OPENING, CLOSING = ENVELOPE
MESSAGES = st.lists(
    st.dictionaries(st.text(st.characters(codec="utf-8")), st.integers() | st.text("aé漢🦓")),
    min_size=1,
    max_size=30,
)


def stored(messages) -> bytes:
    return b"".join(json.dumps(m, ensure_ascii=False).encode() + b"," for m in messages)


@pytest.fixture(params=["isal", "zlib"], autouse=True)
def compressor(request, monkeypatch):
    """With ISA-L, and as on a platform without its wheel."""
    if request.param == "zlib":
        monkeypatch.setattr(body, "deflate", lambda: zlib)
    else:
        assert body.deflate() is not zlib


@pytest.mark.parametrize("size", [500_001, 50_000_000])
def test_a_bomb_is_not_unpacked(size):
    bomb = compressed(b"a" * (size - len(OPENING)) + b",")
    assert is_compressed(bomb)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="larger than a request may be"):
            decompressed(bomb)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert not is_intact(bomb, size - len(OPENING))
    assert len(decompressed(compressed(b"a" * (500_000 - len(OPENING)) + b","))) > 499_000


@settings(max_examples=100, deadline=None)
@given(MESSAGES)
def test_it_is_posted_as_it_lies(messages):
    content = stored(messages)
    body = OPENING + content[:-1] + CLOSING
    for lies in (content, compressed(content), memoryview(compressed(content))):
        assert gzip.decompress(gzip_body(lies, CLOSING)) == body
        assert bytes(decompressed(lies)) == content
        assert [json.loads(bytes(m)) for m in messages_of(lies)] == messages


def test_one_member_and_nothing_behind_it():
    """Decoders differ in what they make of several gzip members, or of bytes behind one."""
    content = stored([{"a": n} for n in range(2_000)])
    stream = zlib.decompressobj(16 + zlib.MAX_WBITS)
    assert stream.decompress(gzip_body(compressed(content), CLOSING))[: len(OPENING)] == OPENING
    assert (stream.eof, stream.unused_data) == (True, b"")


def test_json_is_not_taken_for_compressed():
    assert not any(map(is_compressed, (b'{"a":1},', b'"x",', b"1,", b"")))
    assert is_compressed(compressed(b'{"a":1},'))


@pytest.mark.parametrize("form", [bytes, memoryview])
@pytest.mark.parametrize("store", [bytes, compressed])
def test_what_is_missing_or_cut_off_is_found(form, store):
    content = stored([{"a": n} for n in range(100)])
    whole, size = store(content), len(content)
    assert is_intact(form(whole), size)
    assert not any(is_intact(form(whole), other) for other in (size - 1, size + 1, 0))
    cut = [whole[:n] for n in (0, 1, 9, 12, 13, 50, -1)]
    for damaged in (*cut, whole[:-1] + b"x", whole + b"x"):
        assert not is_intact(form(damaged), size)
    assert not is_intact(None, 0)


def test_events_take_a_small_part():
    events = [
        {
            "messageId": f"{n * 2654435761 % 2**64:032x}",
            "userId": f"u{n}",
            "event": "Item Purchased",
        }
        for n in range(1_000)
    ]
    assert len(compressed(stored(events))) < 0.5 * len(stored(events))
