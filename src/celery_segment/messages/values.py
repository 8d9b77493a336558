"""Python values in the forms that JSON has.

A value is either converted without loss or refused with its path, such as
``properties.items[2].price``. NaN and the infinities become null, as in JavaScript.

msgspec's encoder calls ``_to_native`` for a type that it does not know, so the usual message
takes one pass. ``plain_message`` is the slower conversion, value by value, for a message that
the encoder refuses: it finds the path of the value at fault.
"""

from __future__ import annotations

import operator
import sys
from collections import UserList, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from pathlib import PurePath
from typing import Any
from uuid import UUID

import msgspec

from celery_segment.errors import ValidationError
from celery_segment.messages.paths import Path, field_of, shown
from celery_segment.messages.standing import (
    class_name,
    comes_from,
    has_index,
    real_class,
    resolved,
    resolver_of,
)

__all__ = [
    "MAX_DEPTH",
    "checker",
    "encoder",
    "plain",
    "plain_field",
    "plain_message",
]

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
            changes[name] = plain_field(name, value)
    return msgspec.structs.replace(message, **changes)


def plain_field(name: str, value: Any) -> Any:
    """Return a copy of a field's value in forms that JSON has.

    Raises:
        ValidationError: A value has no JSON form; the error has its path.
    """
    try:
        return plain(value, name, 0)
    except RecursionError:
        raise ValidationError(name, _TOO_DEEP) from None


class _NoFormError(TypeError):
    """A value that is of a known class, and yet has no JSON form."""


def _to_native(value: Any) -> Any:
    """Convert a value whose type the encoder does not know (msgspec's ``enc_hook``)."""
    kind: Any = type(value)
    convert = _converter(kind)
    if convert is None or kind is bool:  # a bool gets here only as a key
        raise _NoFormError
    return convert(value)


@lru_cache(maxsize=256)
def _converter(kind: type) -> Callable[[Any], Any] | None:  # noqa: PLR0911 - a table of types
    """Return the function that converts values of a class by one step towards the builtin types.

    Returns:
        None if the class is not known.
    """
    if resolver_of(kind):
        return resolved
    for base, simplify in _BASES:
        if issubclass(kind, base):
            return simplify
    if comes_from(kind, "numpy", "ndarray", "generic"):
        return _from_numpy
    if comes_from(kind, "pandas", "NAType"):
        return lambda _: None
    if comes_from(kind, "ipaddress", "_IPAddressBase"):
        return str
    if hasattr(kind, "model_dump"):
        return _from_model
    if comes_from(kind, "pydantic", *_SECRETS):
        return _masked
    if comes_from(kind, "pydantic", *_PYDANTICS) or comes_from(kind, "pydantic_core", *_URLS):
        return _from_pydantic
    return operator.index if has_index(kind) else None


def _from_numpy(value: Any) -> Any:
    """Convert a scalar or an array of numpy."""
    if value.dtype.names is not None:  # a record, or an array of them
        raise _NoFormError
    if value.dtype.kind in "mM":
        # tolist() would return numbers of nanoseconds for times of this unit.
        return list(value) if value.shape else _moment(value[()])
    converted = value.tolist()
    if type(converted) is type(value):  # a longdouble
        raise _NoFormError
    return converted


def _moment(value: Any) -> Any:
    """Convert numpy's datetime64 and timedelta64.

    Returns:
        A date, a datetime or a timedelta; an ISO 8601 text if it has nanoseconds; None for NaT.
    """
    moment = value.item()
    if not isinstance(moment, int):
        return moment
    micros = value.astype(f"{value.dtype.kind}8[us]")
    if micros == value:
        moment = micros.item()
    elif value.dtype.kind == "M":
        return str(value)
    if isinstance(moment, int):  # beyond what a datetime or a timedelta holds
        raise _NoFormError
    return moment


#: Types of pydantic's that are no models, by their names or those of their base classes.
_PYDANTICS = ("_BaseUrl", "_BaseMultiHostUrl", "NameEmail")
_URLS = ("Url", "MultiHostUrl")  # before pydantic 2.10
_SECRETS = ("_SecretBase", "SecretStr", "SecretBytes")


def _from_model(value: Any) -> Any:
    """Return a model of pydantic in its JSON mode."""
    # A warning would quote the values that it is about.
    return value.model_dump(mode="json", warnings=False)


def _from_pydantic(value: Any) -> Any:
    """Return a value of one of pydantic's types in pydantic's JSON mode."""
    return sys.modules["pydantic_core"].to_jsonable_python(value)


def _masked(value: Any) -> str:
    """Return what pydantic's JSON mode has in place of a secret.

    Before pydantic 2.10, ``to_jsonable_python`` knows none outside of a model.
    """
    return "**********" if value.get_secret_value() else ""


def _isoformat(value: Any) -> str | None:
    # pandas' NaT is an instance of datetime, and not equal to itself.
    if not value == value:  # noqa: PLR0124, SIM201 - it has its own "=="
        return None
    text: str = value.isoformat()
    # As the encoder writes a plain datetime.
    return f"{text[:-6]}Z" if text.endswith("+00:00") else text


def _duration(value: timedelta) -> Any:
    if getattr(value, "nanoseconds", 0):  # pandas' Timedelta
        return value.isoformat()  # type: ignore[attr-defined]
    return timedelta(value.days, value.seconds, value.microseconds)


#: Conversions of the builtin types' subclasses: numpy's float64, Django's SafeString, pandas'
#: Timestamp, …
_BASES: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__index__),
    (float, float.__float__),
    (bytes, bytes),
    (Decimal, Decimal),
    (UUID, UUID.__str__),
    (date | time, _isoformat),
    (timedelta, _duration),
    (Mapping, lambda value: dict(value.items())),
    (AbstractSet | deque | UserList, list),
    (PurePath, str),
)


#: Types that the encoder supports, but not every value of which.
_NATIVE = (
    *(int, real_class(date), real_class(datetime), time, timedelta),
    *(UUID, bytes, bytearray, memoryview, msgspec.Raw),
)
_TOO_DEEP = f"is nested deeper than {MAX_DEPTH} levels, or contains itself: send a flatter value"


def plain(value: Any, path: Path, depth: int) -> Any:
    """Convert a value to builtin types.

    Args:
        value: Any value.
        path: Its path, for errors.
        depth: The number of levels above it.

    Raises:
        ValidationError: A part of it has no JSON form; the error has that part's path.
    """
    if depth > MAX_DEPTH:
        raise ValidationError(field_of(path), _TOO_DEEP)
    try:
        return _plain(value, path, depth)
    except (ValidationError, RecursionError):
        raise
    except _NoFormError:
        problem = f"a value of type {class_name(value)} has no JSON form"
        raise _refusal(path, problem) from None
    except Exception as error:
        # Raised by the value's own methods.
        problem = f"converting a {class_name(value)} failed with {class_name(error)}"
        raise _refusal(path, problem) from error


def _plain(value: Any, path: Path, depth: int) -> Any:  # noqa: PLR0911 - a table of types
    kind: Any = type(value)
    if value is None or kind is bool or kind is float:  # NaN and infinities become null
        return value
    if kind is str:
        return _text(value, path)
    if kind is Decimal:
        return value if value.is_finite() else None
    if kind in _NATIVE:
        checker.decode(encoder.encode(value))
        return value
    if not resolver_of(kind):  # a proxy claims to be an instance of the class of what it stands for
        if issubclass(kind, dict):
            return dict(_items(value, path, depth))
        # The base class's method, which the encoder uses as well, and not that of a subclass.
        for base in _LISTS:
            if issubclass(kind, base):
                return [
                    plain(item, (path, index), depth + 1)
                    for index, item in enumerate(base.__iter__(value))
                ]
    convert = _converter(kind) or _fields
    return plain(convert(value), path, depth + 1)


_LISTS: tuple[Any, ...] = (list, tuple, set, frozenset)


def _refusal(path: Path, problem: str) -> ValidationError:
    return ValidationError(shown(path), f"{problem}: convert it or leave it out")


def _fields(value: Any) -> Any:
    """Convert an object with declared fields, as the encoder does."""
    kind = type(value)
    if isinstance(value, msgspec.Struct):
        config = value.__struct_config__
        tag = {} if config.tag is None else {config.tag_field: config.tag}
        names = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
        given = {**tag, **_given(value, names)}
        return list(given.values()) if config.array_like else given
    if is_dataclass(kind):
        return _given(value, ((f.name, f.name) for f in fields(kind)))
    if hasattr(kind, "__attrs_attrs__"):
        return _given(value, ((a.name, a.name) for a in kind.__attrs_attrs__))
    raise _NoFormError


def _given(value: Any, names: Iterable[tuple[Any, str]]) -> dict[Any, Any]:
    """Return the values of the attributes that are set.

    Args:
        value: The object.
        names: Pairs of the key in the result and the attribute's name.
    """
    unset = msgspec.UNSET
    pairs = ((key, getattr(value, name, unset)) for key, name in names)
    return {key: content for key, content in pairs if content is not unset}


def _text(value: str, path: Path, what: str = "") -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValidationError(
            f"{shown(path)}{what}",
            "the text contains an unpaired surrogate, which is not valid Unicode: fix the text",
        ) from None
    return value


def _items(mapping: dict[Any, Any], path: Path, depth: int) -> Iterator[tuple[str, Any]]:
    for place, (key, value) in enumerate(dict.items(mapping)):
        name = _key(key, path)
        yield name, plain(value, (path, name, place), depth + 1)


def _key(key: Any, path: Path) -> str:
    """Return a mapping's key as the encoder writes it."""
    try:
        plain = key if type(key) is str else resolved(key)
        if isinstance(plain, str):
            return _text(str.__str__(plain), path, " (a key)")
        if isinstance(plain, Decimal):
            return str(plain)
        (name,) = msgspec.json.decode(encoder.encode({plain: None}))
    except (ValidationError, RecursionError):
        raise
    except Exception as error:
        raise ValidationError(
            shown(path), f"a key of type {class_name(key)} has no JSON form: use a string"
        ) from error
    return str(name)


encoder = msgspec.json.Encoder(enc_hook=_to_native, decimal_format="number")
checker = msgspec.json.Decoder(msgspec.Raw)
