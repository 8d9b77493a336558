"""Encode messages as JSON, and decode them.

A message is encoded once, in the calling process; a request contains the same bytes.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import accumulate
from typing import Any

import msgspec

from celery_segment.errors import MessageTooLarge
from celery_segment.messages.types import ARGUMENTS, Message, Object
from celery_segment.messages.values import MAX_DEPTH, checker, encoder, plain, plain_message

__all__ = [
    "MAX_MESSAGE_BYTES",
    "call_arguments",
    "content_of",
    "decode",
    "encode",
    "encode_value",
    "is_shallow",
    "opened",
    "parse_number",
]

#: Segment's limit for one message: 32 KB of UTF-8 JSON (HTTP Tracking API, "Max request size").
MAX_MESSAGE_BYTES = 32_768

#: Size in bytes up to which a message cannot be too deep: each level takes two brackets, and the
#: fields that every message has take at least 100 bytes.
_SHALLOW = 2 * MAX_DEPTH + 100

#: The step from one level to another that a bracket is.
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in _STEPS)


def encode(message: Message) -> bytes:
    """Return the JSON bytes of a message, as they are sent in the request.

    Raises:
        ValidationError: A value has no JSON form.
        MessageTooLarge: The message is larger than ``MAX_MESSAGE_BYTES``.
    """
    data = _to_json(message)
    if len(data) > MAX_MESSAGE_BYTES:
        sizes = {name: len(value) for name, value in _raw_fields.decode(data).items()}
        largest = max(sizes, key=sizes.__getitem__)
        raise MessageTooLarge(len(data), MAX_MESSAGE_BYTES, ARGUMENTS[largest])
    return data


def decode(data: bytes) -> dict[str, Any]:
    """Return a message in its wire form, with Decimals where a float would lose digits."""
    content: dict[str, Any] = _decoder.decode(data)
    return content


def opened(content: Object) -> dict[str, Any]:
    """Return the value of a field that is an object as a dict."""
    return decode(bytes(content)) if isinstance(content, msgspec.Raw) else content


def call_arguments(data: bytes) -> dict[str, Any]:
    """Return the keyword arguments of a call that builds the same message again.

    The values are those that JSON has, and Decimals where a float would lose digits, which
    Celery's JSON serializer supports.
    """
    content = decode(data)
    del content["type"]
    return {ARGUMENTS[name]: value for name, value in content.items()}


def parse_number(text: str) -> float | Decimal:
    """Parse a JSON number that has a point or an exponent.

    Returns:
        A float, or a Decimal if a float would lose digits.
    """
    value = float(text)
    # A float keeps fifteen digits in any case, so the exact comparison is not needed.
    if len(text) <= 16 and "e" not in text and "E" not in text:  # noqa: PLR2004 - and the point
        return value
    exact = Decimal(text)
    return value if Decimal(repr(value)) == exact else exact


def _to_json(message: msgspec.Struct) -> bytes:
    """Return a message as compact JSON.

    Raises:
        ValidationError: A value has no JSON form; the error has its path.
    """
    try:
        data = encoder.encode(message)
        # The encoder accepts a few values that it cannot write as valid JSON (a Decimal NaN,
        # a Decimal key). Scanning the bytes once more takes a third of a microsecond.
        checker.decode(data)
        # A deeper message may be too deep for a worker, whose stack may be smaller.
        if is_shallow(data):
            return data
    except Exception:  # noqa: BLE001, S110 - plain_message raises it with its path
        pass
    return encoder.encode(plain_message(message))


def is_shallow(data: bytes) -> bool:
    """Return whether a JSON text is known to have no more levels than a message may have."""
    return (
        len(data) <= _SHALLOW
        or data.count(b"[") + data.count(b"{") <= MAX_DEPTH
        or _depth(data) <= MAX_DEPTH // 2  # an object of the caller's may count as two levels
    )


def _depth(data: bytes) -> int:
    """Return the number of nested levels of a JSON text."""
    # Backslashes are in strings only. Without the escaped quotes, each quote begins or ends one.
    parts = data.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')[::2]
    brackets = b"".join(parts).translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)))


#: The fields that typed events and traits fill.
_TYPED = ("properties", "traits")


def content_of(message: Message) -> bytes:
    """Return a message as JSON that is the same in each process: dicts and sets are sorted.

    Raises:
        ValidationError: A value has no JSON form; the error has its path.
    """
    for field in _TYPED:  # encoded in the order of a class, and not in that of a dict
        if isinstance(value := getattr(message, field, None), msgspec.Raw):
            message = msgspec.structs.replace(message, **{field: opened(value)})
    try:
        return _sorting.encode(message)
    except Exception:  # noqa: BLE001 - plain_message raises it with its path
        return _sorting.encode(plain_message(message))


def encode_value(value: Any) -> bytes:
    """Return a value as compact JSON, converted as in a message."""
    return encoder.encode(plain(value, "", 0))


_decoder = msgspec.json.Decoder(dict[str, Any], float_hook=parse_number)
_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_sorting = msgspec.json.Encoder(
    enc_hook=encoder.enc_hook, decimal_format="number", order="deterministic"
)
