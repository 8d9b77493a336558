"""Parse the fields of a message. No I/O.

``parse`` returns the value to send. It raises ``ValidationError`` with the field, the type
of the value that was given, and how to fix it, and never with the value: it may be
somebody's personal data.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from celery_segment.errors import ValidationError
from celery_segment.messages.standing import class_name, comes_from, has_index, real_class, resolved
from celery_segment.messages.types import Object

__all__ = [
    "IDS",
    "MAX_MESSAGE_ID",
    "PLAIN",
    "parse",
    "type_name",
]

#: Segment's limit for a messageId, in characters. Segment deduplicates by it.
MAX_MESSAGE_ID = 100

#: Fewest digits of a Decimal that is no id, so that 1E+999999 does not become a million digits.
_TOO_LONG = 300

#: By a float's size in bytes, the number from which on it does not have all digits of an id.
_INEXACT = {2: 2**11, 4: 2**24, 8: 2**53}


def parse(field: str, value: Any) -> Any:
    """Return the value to send of a field, or None if there is none.

    Raises:
        ValidationError: The value is not one of this field. Whatever else the value's own
            methods raise is its cause.
    """
    try:
        value = resolved(value)
        return None if value is None else _PARSERS[field](field, value)
    except ValidationError:
        raise
    except Exception as error:
        raise ValidationError(
            field,
            f"reading a {class_name(value)} failed with {class_name(error)}:"
            " pass the value that it stands for",
        ) from error


def type_name(value: Any) -> str:
    """Return the end of an error about a value's type, such as "not list"."""
    if issubclass(type(value), type):
        return "not a class: pass an object of it"
    return f"not {class_name(value)}"


def _identifier(field: str, value: Any) -> str | None:
    """Parse the id of a user or a group.

    Strings, whole numbers of any class and UUIDs are accepted, and sent as text. An empty
    text is None.
    """
    if isinstance(value, str):
        return str.__str__(value) or None
    if isinstance(value, UUID):
        return UUID.__str__(value)
    number = value if type(value) is int else _whole_number(field, value)
    try:
        if number is not None:
            return str(number)
    except ValueError:  # thousands of digits
        pass
    raise ValidationError(field, f"must be a string, a whole number or a UUID, {type_name(value)}")


def _whole_number(field: str, value: Any) -> int | None:
    """Return a whole number as an int; None for any other value."""
    kind = type(value)
    if isinstance(value, int):
        return None if kind is bool else int.__index__(value)
    if isinstance(value, Decimal):
        is_whole = value.is_finite() and value.adjusted() < _TOO_LONG
        return int(value) if is_whole and value == value.to_integral_value() else None
    if isinstance(value, float) or comes_from(kind, "numpy", "floating"):
        return _whole_float(field, value)
    has_parts = bool(getattr(value, "shape", ()))  # an array with one number in it
    return operator.index(value) if has_index(kind) and not has_parts else None


def _whole_float(field: str, value: Any) -> int | None:
    # As in a column of pandas that lacks some of its ids, which are floats therefore.
    number = float(value)
    if not number.is_integer():
        return None
    if abs(number) >= _INEXACT.get(getattr(value, "itemsize", 8), 2**53):
        raise ValidationError(
            field, f"this {class_name(value)} is too large to have all digits: pass it as a string"
        )
    return int(number)


def _text(field: str, value: Any) -> str | None:
    if not isinstance(value, str):
        raise ValidationError(field, f"must be a string, {type_name(value)}")
    return str.__str__(value) or None


def _mapping(field: str, value: Any) -> dict[str, Any]:
    if type(value) is dict:
        return value
    if isinstance(value, dict):
        return dict(dict.items(value))
    if isinstance(value, Mapping):
        return dict(value)
    raise ValidationError(field, f"must be a dict, {type_name(value)}")


def _properties(field: str, value: Any) -> Object:
    if read := getattr(type(value), "__segment_properties__", None):
        return read(value)  # type: ignore[no-any-return]
    if hasattr(type(value), "__segment_event__"):
        raise ValidationError(field, f"{class_name(value)} is an event: pass it as event")
    return _mapping(field, value)


def _traits(field: str, value: Any) -> Object:
    if read := getattr(type(value), "__segment_traits__", None):
        return read(value)  # type: ignore[no-any-return]
    return _mapping(field, value)


def _message_id(field: str, value: Any) -> str:
    """Parse a messageId that the caller gives: a string of 1 to 100 characters, or a UUID."""
    if isinstance(value, UUID):
        return UUID.__str__(value)
    if not isinstance(value, str):
        raise ValidationError(field, f"must be a string or a UUID, {type_name(value)}")
    text = str.__str__(value)
    if not 0 < len(text) <= MAX_MESSAGE_ID:
        raise ValidationError(
            field, f"has {len(text)} characters; Segment accepts 1 to {MAX_MESSAGE_ID}"
        )
    return text


def _timestamp(field: str, value: Any) -> str:
    """Parse a datetime or an ISO 8601 text.

    Returns:
        The time in Segment's format: UTC, ISO 8601, milliseconds.
    """
    if isinstance(value, str):
        text = str.__str__(value)
        try:
            value = msgspec.convert(text, _REAL[0])
        except (msgspec.ValidationError, UnicodeEncodeError):
            raise ValidationError(
                field,
                f"this text of {len(text)} characters is not ISO 8601, such as"
                " 2026-11-23T07:00:00.123Z",
            ) from None
        if len(text) == 24 and text[10] == "T" and text[23] == "Z":  # noqa: PLR2004 - the result's format
            return text
    moment = value if isinstance(value, datetime) else _from_numpy(value)
    # pandas' NaT is an instance of datetime, and not equal to itself.
    if not isinstance(moment, datetime) or not moment == moment:  # noqa: PLR0124, SIM201
        fix = "add a time of day" if _is_date(moment) else "pass a datetime"
        raise ValidationError(field, f"must be a datetime, {type_name(value)}: {fix}")
    try:
        utc = _aware(moment).astimezone(timezone.utc)
    except (OverflowError, ValueError):
        raise ValidationError(field, f"this {class_name(value)} is out of range in UTC") from None
    return datetime.isoformat(utc, timespec="milliseconds")[:23] + "Z"


def _from_numpy(value: Any) -> Any:
    """Return numpy's datetime64 as a datetime or a date, and any other value as it is."""
    if not comes_from(type(value), "numpy", "datetime64"):
        return value
    moment = value.item()
    # It is a number of nanoseconds where the unit is that.
    return value.astype("M8[us]").item() if isinstance(moment, int) else moment


def _is_date(value: Any) -> bool:
    return isinstance(value, date) and not isinstance(value, datetime)


def _aware(value: datetime) -> datetime:
    """Return a datetime with a time zone.

    A naive one within five seconds of this machine's clock is taken for the result of
    ``datetime.now()``, which is local time; any other is taken for UTC. Segment's Python
    library uses the same rule.
    """
    if value.utcoffset() is not None:
        return value
    naive = value.replace(tzinfo=None)
    local = datetime.now()  # noqa: DTZ005 - naive against naive
    if abs((local - naive).total_seconds()) >= 5:  # noqa: PLR2004
        return naive.replace(tzinfo=timezone.utc)
    # The difference of the two clocks, and not the machine's zone: freezegun's local time has
    # an offset of its own.
    offset = (local - _EPOCH).total_seconds() - time.time()
    return naive.replace(tzinfo=timezone(timedelta(minutes=round(offset / 60))))


_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - naive against naive
#: In a tuple: see ``real_class``.
_REAL = (real_class(datetime),)

_PARSERS: dict[str, Callable[[str, Any], Any]] = {
    "user_id": _identifier,
    "anonymous_id": _identifier,
    "previous_id": _identifier,
    "group_id": _identifier,
    "event": _text,
    "category": _text,
    "name": _text,
    "properties": _properties,
    "traits": _traits,
    "integrations": _mapping,
    "context": _mapping,
    "timestamp": _timestamp,
    "message_id": _message_id,
}

#: The fields that are ids of persons and groups.
IDS = frozenset(field for field, parser in _PARSERS.items() if parser is _identifier)

#: Type by field of the values that need no parser, unless they are empty.
PLAIN = {
    field: str if parser in {_identifier, _text} else dict
    for field, parser in _PARSERS.items()
    if parser in {_identifier, _text, _mapping, _properties, _traits}
}
