"""Python values in the forms that JSON has.

A value is either converted without loss or refused with its path, such as
``properties.items[2].price``. NaN and the infinities become null, as in JavaScript.

msgspec's encoder calls ``_to_native`` for a type that it does not know, so the usual message
takes one pass. ``plain_message`` is the slower conversion, value by value, for a message that
the encoder refuses: it finds the path of the value at fault.
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

from celery_segment.errors import ValidationError

__all__ = ["MAX_DEPTH", "checker", "encoder", "plain", "plain_message"]

#: Maximum number of nested levels. A deeper value is a mistake, usually a cycle. The limit is
#: independent of the interpreter's recursion limit, since the worker's stack may be smaller
#: than the caller's, and the worker has to decode the message.
MAX_DEPTH = 200


def plain_message(message: msgspec.Struct) -> msgspec.Struct:
    """Return a copy of a message whose values are all in forms that JSON has.

    Raises:
        ValidationError: A value has no JSON form; the error has its path.
    """
    changes = {}
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if isinstance(value, Mapping | str):
            try:
                changes[name] = plain(value, name, 0)
            except RecursionError:
                raise ValidationError(name, _TOO_DEEP) from None
    return msgspec.structs.replace(message, **changes)


def _to_native(value: Any) -> Any:
    """Convert a value whose type the encoder does not know (msgspec's ``enc_hook``)."""
    known, converted = _convert(value)
    if not known or isinstance(value, bool):  # a bool gets here only as a key
        raise TypeError(type(value).__name__)
    return converted


def _convert(value: Any) -> tuple[bool, Any]:  # noqa: PLR0911 - a table of types
    """Convert a value by one step towards the builtin types.

    Returns:
        Whether the type is known, and the converted value.
    """
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
        converted = value.tolist()
        # tolist() returns a number of nanoseconds for a datetime64[ns], which was hardly meant,
        # the value itself for a longdouble, and a tuple without field names for a record.
        unusable = value.dtype.kind in "mM" and _contains_int(converted)
        unusable = unusable or type(converted) is kind or value.dtype.names is not None
        return (False, None) if unusable else (True, converted)
    if callable(getattr(kind, "model_dump", None)):  # pydantic
        return True, value.model_dump()
    if any(base.__name__ == "Promise" and "django" in base.__module__ for base in kind.__mro__):
        return True, str(value)  # a lazily translated text of Django
    return False, None


def _isoformat(value: Any) -> str | None:
    # pandas' NaT is an instance of datetime, and not equal to itself.
    return value.isoformat() if value == value else None  # noqa: PLR0124


#: Conversions of the builtin types' subclasses: numpy's float64, Django's SafeString, pandas'
#: Timestamp, …
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


def _contains_int(value: Any) -> bool:
    return any(map(_contains_int, value)) if isinstance(value, list) else isinstance(value, int)


#: Types that the encoder supports, but not every value of which.
_NATIVE = (int, date, datetime, time, timedelta, UUID, bytes, bytearray, memoryview, msgspec.Raw)
_TOO_DEEP = f"is nested deeper than {MAX_DEPTH} levels, or contains itself: send a flatter value"


def plain(value: Any, path: str, depth: int) -> Any:  # noqa: PLR0911 - a table of types
    """Convert a value to builtin types.

    Args:
        value: Any value.
        path: Its path, for errors, such as ``properties.items[2]``.
        depth: The number of levels above it.

    Raises:
        ValidationError: A part of it has no JSON form; the error has that part's path.
    """
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
        return plain(value.value, path, depth + 1)
    if isinstance(value, dict):
        return dict(_items(value, path, depth))
    if isinstance(value, list | tuple) or kind in (set, frozenset):
        return [plain(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
    return plain(_simpler(value, path), path, depth + 1)


def _native(value: Any, path: str) -> Any:
    """Return a value of a type that the encoder supports, if it can encode this one."""
    try:
        checker.decode(encoder.encode(value))
    except Exception as error:
        raise ValidationError(
            path,
            f"this {type(value).__name__} cannot be encoded ({type(error).__name__}):"
            " convert it or leave it out",
        ) from error
    return value


def _simpler(value: Any, path: str) -> Any:
    """Convert a value by one step towards the builtin types, or raise ValidationError."""
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
    """Convert an object with declared fields as the encoder does; return as ``_convert`` does."""
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
    """Return the values of the attributes that are set.

    Args:
        value: The object.
        names: Pairs of the key in the result and the attribute's name.
    """
    unset = msgspec.UNSET
    pairs = ((key, getattr(value, name, unset)) for key, name in names)
    return {key: content for key, content in pairs if content is not unset}


def _text(value: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValidationError(
            path,
            "the text contains an unpaired surrogate, which is not valid Unicode: fix the text",
        ) from None
    return value


def _items(mapping: dict[Any, Any], path: str, depth: int) -> Iterator[tuple[str, Any]]:
    for key, value in dict.items(mapping):
        name = _key(key, path)
        yield name, plain(value, f"{path}.{name}", depth + 1)


def _key(key: Any, path: str) -> str:
    """Return a mapping's key as the encoder writes it."""
    plain = key.value if isinstance(key, Enum) else key
    if isinstance(plain, str):
        return _text(str.__str__(plain), f"{path} (a key)")
    if isinstance(plain, Decimal):
        return str(plain)
    try:
        (name,) = msgspec.json.decode(encoder.encode({plain: None}))
    except Exception as error:
        raise ValidationError(
            path, f"a key of type {type(key).__name__} has no JSON form: use a string"
        ) from error
    return str(name)


encoder = msgspec.json.Encoder(enc_hook=_to_native, decimal_format="number")
checker = msgspec.json.Decoder(msgspec.Raw)
