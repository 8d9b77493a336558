"""A sealed batch in little memory: compressed as it will be posted, and posted as it lies.

A packed batch is a mark that no JSON begins with, the CRC-32 and the size of what was
compressed (the request body up to its closing, see ``ENVELOPE``), and a raw deflate
stream that ends at a byte's boundary, so that the closing can follow it: gzip's header
(RFC 1952) before and its trailer behind make a request body of it, without looking into it.
"""

from __future__ import annotations

import struct
import zlib
from functools import cache
from types import ModuleType

import msgspec

__all__ = [
    "ENVELOPE",
    "compressor",
    "gzipped",
    "is_packed",
    "messages_of",
    "packed",
    "unpacked",
]

#: What stands around the messages in a request body; the time is filled in at each attempt.
ENVELOPE = (b'{"batch":[', b'],"sentAt":"YYYY-MM-DDTHH:MM:SS.mmmZ"}')
_OPENING = ENVELOPE[0]

_MARK = b"\x1f"
_ABOUT = struct.Struct("<II")
_START = len(_MARK) + _ABOUT.size
_LEVEL = 1
#: Magic number, deflate, no flags, no time, no extra flags, an unknown system.
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

Content = bytes | memoryview


@cache
def compressor() -> ModuleType:
    """Return ISA-L, or zlib on a platform without its wheel; a web process loads neither."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib
    return isal_zlib


def is_packed(stored: Content) -> bool:
    """Return whether a sealed batch lies packed."""
    return stored[:1] == _MARK


def packed(content: Content) -> bytes:
    """Return a batch's messages, each with a comma behind it, packed."""
    deflate = compressor()
    inner = memoryview(content)[:-1]
    stream = deflate.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    data = (
        stream.compress(_OPENING),
        stream.compress(inner),
        stream.flush(zlib.Z_SYNC_FLUSH),
    )
    crc = deflate.crc32(inner, deflate.crc32(_OPENING))
    return b"".join((_MARK, _ABOUT.pack(crc, len(_OPENING) + len(inner)), *data))


def unpacked(stored: Content) -> Content:
    """Return a batch's messages, each with a comma behind it, however they lie."""
    if not is_packed(stored):
        return stored
    data: bytes = compressor().decompressobj(-zlib.MAX_WBITS).decompress(stored[_START:])
    return b"".join((memoryview(data)[len(_OPENING) :], b","))


def gzipped(stored: Content, closing: bytes) -> bytes:
    """Return the compressed request body of a batch, however it lies."""
    deflate = compressor()
    if not is_packed(stored):
        stream = deflate.compressobj(_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
        parts = (_OPENING, memoryview(stored)[:-1], closing)
        return b"".join((*map(stream.compress, parts), stream.flush()))
    crc, size = _ABOUT.unpack(stored[len(_MARK) : _START])
    end = deflate.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    trailer = _ABOUT.pack(deflate.crc32(closing, crc), size + len(closing))
    data = (_GZIP_HEADER, stored[_START:], end.compress(closing), end.flush(), trailer)
    return b"".join(data)


_list_of_raw = msgspec.json.Decoder(list[msgspec.Raw])


def messages_of(stored: bytes | memoryview) -> list[msgspec.Raw]:
    """Return the messages of a stored batch, packed or not, each as it was appended."""
    return _list_of_raw.decode(b"".join((b"[", memoryview(unpacked(stored))[:-1], b"]")))
