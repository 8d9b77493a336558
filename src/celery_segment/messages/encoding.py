"""A message becomes JSON bytes: once, at the call, and never again.

Whatever Python value a caller gives is either encoded without loss or refused
with its path. Non-finite numbers become null, as in JavaScript.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec

from celery_segment.errors import MessageTooLarge, ValidationError
from celery_segment.messages.types import ARGUMENTS, Message

__all__ = [
    "MAX_MESSAGE_BYTES",
    "call_arguments",
    "decode",
    "encode",
    "encode_value",
    "parse_number",
]

#: Segment's limit for one message: 32 KB of UTF-8 JSON (HTTP Tracking API, "Max request size").
MAX_MESSAGE_BYTES = 32_768

#: Deeper structures are a mistake (a cycle, mostly), whatever the interpreter's stack allows.
MAX_DEPTH = 200
#: Bytes below which nothing is so deep: two brackets a level, and what every message has.
_SHALLOW = 2 * MAX_DEPTH + 100


def encode(message: Message) -> bytes:
    """Encode a message as it will stand in the request.

    Raises:
        ValidationError: A value has no JSON form.
        MessageTooLarge: The bytes exceed ``MAX_MESSAGE_BYTES``.
    """
    data = _to_json(message)
    if len(data) > MAX_MESSAGE_BYTES:
        sizes = {
            name: len(encode_value(value))
            for name in message.__struct_fields__
            if (value := getattr(message, name)) is not None
        }
        raise MessageTooLarge(len(data), MAX_MESSAGE_BYTES, max(sizes, key=sizes.__getitem__))
    return data


def decode(data: bytes) -> dict[str, Any]:
    """Return a message as it is sent, with Decimals where a float would lose digits."""
    content: dict[str, Any] = _decoder.decode(data)
    return content


def call_arguments(data: bytes) -> dict[str, Any]:
    """Return the keyword arguments that make the message of these bytes again.

    They are JSON-safe, but for the Decimals that stand where a float would lose
    digits, and that Celery's own JSON carries.
    """
    content = decode(data)
    del content["type"]
    return {ARGUMENTS[name]: value for name, value in content.items()}


def parse_number(text: str) -> float | Decimal:
    """Return a JSON number with a point or an exponent: a float, unless that loses digits."""
    value = float(text)
    # Fifteen digits are kept in any case.
    if len(text) <= 16 and "e" not in text and "E" not in text:  # noqa: PLR2004 - and a point
        return value
    exact = Decimal(text)
    return value if Decimal(repr(value)) == exact else exact


def _to_json(message: msgspec.Struct) -> bytes:
    """Return a message as compact JSON.

    Raises:
        ValidationError: A value has no JSON form; its path is named.
    """
    try:
        data = _encoder.encode(message)
        # The encoder lets a few things pass that are not JSON (a Decimal NaN, a
        # Decimal key); skipping over the bytes costs a third of a microsecond.
        _checker.decode(data)
        # So many brackets may be too deep for a worker, whose stack is not the caller's.
        if len(data) <= _SHALLOW or data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
            return data
    except Exception:  # noqa: BLE001, S110 - the slow road finds it, whatever it was, and its path
        pass
    return _encoder.encode(_plain_message(message))


def encode_value(value: Any) -> bytes:
    """Return any value that a message may hold as compact JSON."""
    return _encoder.encode(_plain(value, "", 0))


def _plain_message(message: msgspec.Struct) -> msgspec.Struct:
    """Return the message with every value in a form that JSON has, or refuse with its path."""
    changes = {}
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if isinstance(value, Mapping | str):
            try:
                changes[name] = _plain(value, name, 0)
            except RecursionError:
                raise ValidationError(name, _TOO_DEEP) from None
    return msgspec.structs.replace(message, **changes)


def _hook(value: Any) -> Any:
    """Give the encoder a native value for a type it does not know."""
    known, converted = _convert(value)
    if not known or isinstance(value, bool):  # which comes here as a key alone
        raise TypeError(type(value).__name__)
    return converted


def _convert(value: Any) -> tuple[bool, Any]:  # noqa: PLR0911 - a table of types
    """Return whether ``value`` has a JSON form, and the next simpler value on the way to it."""
    for base, simplify in _BASES:
        if isinstance(value, base):
            return True, simplify(value)
    if isinstance(value, Mapping):
        return True, dict(value.items())
    if isinstance(value, AbstractSet):
        return True, list(value)
    kind = type(value)
    if kind.__module__ == "collections" and kind.__name__ in {"deque", "UserString", "UserList"}:
        return True, str(value) if kind.__name__ == "UserString" else list(value)
    if kind.__module__.partition(".")[0] == "numpy" and hasattr(value, "tolist"):
        plain = value.tolist()
        # datetime64[ns] gives its count of nanoseconds, a number nobody meant; longdouble
        # gives itself; a record loses its fields' names.
        odd = value.dtype.kind in "mM" and _holds_int(plain)
        odd = odd or type(plain) is kind or value.dtype.names is not None
        return (False, None) if odd else (True, plain)
    if callable(getattr(kind, "model_dump", None)):  # pydantic
        return True, value.model_dump()
    if any(base.__name__ == "Promise" and "django" in base.__module__ for base in kind.__mro__):
        return True, str(value)  # Django's lazily translated text
    return False, None


def _isoformat(value: Any) -> str | None:
    # pandas' NaT is a datetime, and equals nothing, not even itself.
    return value.isoformat() if value == value else None  # noqa: PLR0124


#: What a value of a subclass becomes: numpy's float64, Django's SafeString, pandas' Timestamp, …
_BASES: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int),
    (float, float),
    (bytes, bytes),
    (Decimal, Decimal),
    (UUID, str),
    (date | time, _isoformat),
    (timedelta, lambda value: timedelta(value.days, value.seconds, value.microseconds)),
)


def _holds_int(value: Any) -> bool:
    return any(map(_holds_int, value)) if isinstance(value, list) else isinstance(value, int)


_NATIVE = (int, date, datetime, time, timedelta, UUID, bytes, bytearray, memoryview, msgspec.Raw)
_TOO_DEEP = f"is nested deeper than {MAX_DEPTH} levels, or holds itself: send a flatter value"


def _plain(value: Any, path: str, depth: int) -> Any:  # noqa: PLR0911 - a table of types
    """Return ``value`` in builtin types, or refuse the part of it that has no JSON form."""
    if depth > MAX_DEPTH:
        raise ValidationError(re.split(r"[.\[]", path, maxsplit=1)[0], _TOO_DEEP)
    kind = type(value)
    if value is None or kind is bool or kind is float:  # NaN and infinities become null
        return value
    if kind is str:
        return _text(value, path)
    if kind is Decimal:
        return value if value.is_finite() else None
    if kind in _NATIVE:
        return _native(value, path)
    if isinstance(value, Enum):
        return _plain(value.value, path, depth + 1)
    if isinstance(value, dict):
        return dict(_items(value, path, depth))
    if isinstance(value, list | tuple) or kind in (set, frozenset):
        return [_plain(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
    return _plain(_simpler(value, path), path, depth + 1)


def _native(value: Any, path: str) -> Any:
    """Return a value of a type that the encoder knows, unless this one is beyond it."""
    try:
        _checker.decode(_encoder.encode(value))
    except Exception as error:
        raise ValidationError(
            path,
            f"this {type(value).__name__} cannot be encoded ({type(error).__name__}):"
            " convert it or leave it out",
        ) from error
    return value


def _simpler(value: Any, path: str) -> Any:
    """Return the next simpler value on the way to builtin types, or refuse."""
    try:
        known, converted = _convert(value)
        if not known:
            known, converted = _fields(value)
    except Exception as error:
        raise ValidationError(
            path,
            f"converting a {type(value).__name__} failed with {type(error).__name__}:"
            " convert it or leave it out",
        ) from error
    if known:
        return converted
    raise ValidationError(
        path, f"a value of type {type(value).__name__} has no JSON form: convert it or leave it out"
    )


def _fields(value: Any) -> tuple[bool, Any]:
    """As ``_convert``, for objects with declared fields: what the encoder makes of them."""
    kind = type(value)
    if isinstance(value, msgspec.Struct):
        config = value.__struct_config__
        tag = {} if config.tag is None else {config.tag_field: config.tag}
        names = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
        given = {**tag, **_given(value, names)}
        return True, list(given.values()) if config.array_like else given
    if is_dataclass(kind):
        return True, _given(value, ((f.name, f.name) for f in fields(kind)))
    if hasattr(kind, "__attrs_attrs__"):
        return True, _given(value, ((a.name, a.name) for a in kind.__attrs_attrs__))
    return False, None


def _given(value: Any, names: Iterable[tuple[Any, str]]) -> dict[Any, Any]:
    """Return the fields of an object that are set, by the names to show."""
    unset = msgspec.UNSET
    pairs = ((shown, getattr(value, name, unset)) for shown, name in names)
    return {shown: content for shown, content in pairs if content is not unset}


def _text(value: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValidationError(
            path, "the text holds half of a surrogate pair, which is not valid Unicode: repair it"
        ) from None
    return value


def _items(mapping: dict[Any, Any], path: str, depth: int) -> Iterator[tuple[str, Any]]:
    for key, value in dict.items(mapping):
        name = _key(key, path)
        yield name, _plain(value, f"{path}.{name}", depth + 1)


def _key(key: Any, path: str) -> str:
    """Return a key as the encoder writes it."""
    plain = key.value if isinstance(key, Enum) else key
    if isinstance(plain, str):
        return _text(str.__str__(plain), f"{path} (a key)")
    if isinstance(plain, Decimal):
        return str(plain)
    try:
        (name,) = msgspec.json.decode(_encoder.encode({plain: None}))
    except Exception as error:
        raise ValidationError(
            path, f"a key of type {type(key).__name__} has no JSON form: use a string"
        ) from error
    return str(name)


_encoder = msgspec.json.Encoder(enc_hook=_hook, decimal_format="number")
_checker = msgspec.json.Decoder(msgspec.Raw)
_decoder = msgspec.json.Decoder(dict[str, Any], float_hook=parse_number)
