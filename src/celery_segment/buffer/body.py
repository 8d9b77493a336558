"""A sealed batch's bytes: as JSON or compressed, ready to be posted either way.

The JSON form is the messages, each with a comma behind it. The compressed form is a mark
that no JSON begins with, the CRC-32 and the size of what was compressed (the request body
up to its closing, see ``ENVELOPE``), and a raw deflate stream that ends at a byte's
boundary, so that the closing can follow it: with gzip's header (RFC 1952) before and its
trailer behind, it is a request body that nothing had to decompress.
"""

from __future__ import annotations

import hashlib
import struct
import zlib

import msgspec

from celery_segment.compression import deflate
from celery_segment.config.source import MAX_BATCH_BYTES

__all__ = [
    "ENVELOPE",
    "compressed",
    "decompressed",
    "digest_of",
    "first_half",
    "gzip_body",
    "is_compressed",
    "is_intact",
    "measured",
    "messages_of",
]

#: What surrounds the messages in a request body; the time is filled in at each attempt.
ENVELOPE = (b'{"batch":[', b'],"sentAt":"YYYY-MM-DDTHH:MM:SS.mmmZ"}')
_OPENING = ENVELOPE[0]

_MARK = b"\x1f"
_HEADER = struct.Struct("<II")
_START = len(_MARK) + _HEADER.size
_LEVEL = 1
#: What a deflate stream ends with that ends at a byte's boundary.
_END = b"\x00\x00\xff\xff"
#: Magic number, deflate, no flags, no time, no extra flags, an unknown system.
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

Content = bytes | memoryview


def is_compressed(stored: Content) -> bool:
    """Return whether a sealed batch is stored compressed."""
    return stored[:1] == _MARK


def compressed(content: Content) -> bytes:
    """Return the compressed form of a batch's JSON form."""
    inner = memoryview(content)[:-1]
    stream = deflate().compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    data = (
        stream.compress(_OPENING),
        stream.compress(inner),
        stream.flush(zlib.Z_SYNC_FLUSH),
    )
    crc = deflate().crc32(inner, deflate().crc32(_OPENING))
    return b"".join((_MARK, _HEADER.pack(crc, len(_OPENING) + len(inner)), *data))


def decompressed(stored: Content) -> Content:
    """Return the JSON form of a batch, whichever form is stored.

    Raises:
        ValueError: It is larger than any batch: a few bytes may unpack to thousands of times as
            many. Nothing beyond that size is unpacked.
    """
    if not is_compressed(stored):
        return stored
    stream = deflate().decompressobj(-zlib.MAX_WBITS)
    data: bytes = stream.decompress(stored[_START:], MAX_BATCH_BYTES + 1)
    if len(data) > MAX_BATCH_BYTES:
        raise ValueError("the batch is larger than a request may be")
    return b"".join((memoryview(data)[len(_OPENING) :], b","))


def digest_of(stored: Content) -> str:
    """Return the digest by which a script recognizes what was read: SHA-1 is what Redis has."""
    return hashlib.sha1(stored, usedforsecurity=False).hexdigest()


def gzip_body(stored: Content, closing: bytes) -> bytes:
    """Return a batch's request body in gzip's format, whichever form is stored."""
    if not is_compressed(stored):
        stream = deflate().compressobj(_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
        parts = (_OPENING, memoryview(stored)[:-1], closing)
        return b"".join((*map(stream.compress, parts), stream.flush()))
    crc, size = _HEADER.unpack(stored[len(_MARK) : _START])
    end = deflate().compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    trailer = _HEADER.pack(deflate().crc32(closing, crc), size + len(closing))
    data = (_GZIP_HEADER, stored[_START:], end.compress(closing), end.flush(), trailer)
    return b"".join(data)


def is_intact(stored: Content | None, size: int) -> bool:
    """Return whether a stored batch is as long as its JSON form of ``size`` bytes makes it.

    This finds what is missing or cut off, at no cost; not what was changed in its place.
    """
    if not stored or size > MAX_BATCH_BYTES or len(stored) > MAX_BATCH_BYTES:
        return False
    if not is_compressed(stored):
        return len(stored) == size and stored[-1:] == b","
    if len(stored) < _START + len(_END):
        return False
    _, inner = _HEADER.unpack(stored[len(_MARK) : _START])
    return inner - len(_OPENING) + 1 == size and bytes(stored[-len(_END) :]) == _END


_list_of_raw = msgspec.json.Decoder(list[msgspec.Raw])


def messages_of(stored: Content) -> list[msgspec.Raw]:
    """Return the messages of a stored batch, each with the bytes that were appended."""
    return _list_of_raw.decode(b"".join((b"[", memoryview(decompressed(stored))[:-1], b"]")))


def first_half(stored: Content) -> tuple[int, int]:
    """Return the size of the first half of a stored batch's messages as JSON, and their number."""
    parts = messages_of(stored)
    half = parts[: len(parts) // 2]
    return sum(len(part) + 1 for part in half), len(half)


def measured(stored: Content) -> tuple[int, int] | None:
    """Return how many messages a stored batch has, and their size; None where it is damaged."""
    try:
        content = decompressed(stored)
        count, size = len(messages_of(content)), len(content)
    except Exception:  # noqa: BLE001 - whatever is there instead
        return None
    return (count, size) if is_intact(stored, size) else None
