"""Parse the fields of a message. No I/O.

Each parser returns the value to send. It raises ``ValidationError`` with the field, the
type of the value that was given, and how to fix it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec

from celery_segment.errors import ValidationError

__all__ = [
    "MAX_MESSAGE_ID",
    "PARSE",
    "PLAIN",
    "identifier",
    "json_object",
    "parse_message_id",
    "parse_timestamp",
    "type_name",
]

#: Segment's limit for a messageId, in characters. Segment deduplicates by it.
MAX_MESSAGE_ID = 100


def type_name(value: Any) -> str:
    """Return the end of an error about a value's type, such as "not list"."""
    return f"not {type(value).__name__}"


def identifier(field: str, value: Any) -> str | None:
    """Parse the id of a user or a group.

    Strings, whole numbers and UUIDs are accepted, and sent as text. An empty text is None.
    """
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, str):
        return str.__str__(value) or None
    try:
        if isinstance(value, int | UUID) and not isinstance(value, bool):
            return str(value)
        if isinstance(value, float | Decimal) and -1e300 < value < 1e300 and value == int(value):  # noqa: PLR2004 - finite
            return str(int(value))
    except (ValueError, ArithmeticError):  # an int of thousands of digits, or a Decimal NaN
        pass
    raise ValidationError(field, f"must be a string, a whole number or a UUID, {type_name(value)}")


def _text(field: str, value: Any) -> str | None:
    if isinstance(value, Enum):
        value = value.value
    if not isinstance(value, str):
        raise ValidationError(field, f"must be a string, {type_name(value)}")
    return str.__str__(value) or None


def json_object(field: str, value: Any) -> dict[str, Any]:
    """Parse a mapping, and return a dict."""
    if isinstance(value, dict):
        return value
    if isinstance(value, Mapping):
        return dict(value)
    raise ValidationError(field, f"must be a dict, {type_name(value)}")


def parse_message_id(value: Any) -> str:
    """Parse a messageId that the caller gives: a string of 1 to 100 characters, or a UUID."""
    text = str(value) if isinstance(value, UUID) else value
    if not isinstance(text, str):
        raise ValidationError("message_id", f"must be a string or a UUID, {type_name(value)}")
    if not 0 < len(text) <= MAX_MESSAGE_ID:
        raise ValidationError(
            "message_id", f"has {len(text)} characters; Segment accepts 1 to {MAX_MESSAGE_ID}"
        )
    return str.__str__(text)


def parse_timestamp(value: Any) -> str:
    """Parse a datetime or an ISO 8601 text.

    Returns:
        The time in Segment's format: UTC, ISO 8601, milliseconds.
    """
    if isinstance(value, str):
        text = value
        try:
            value = msgspec.convert(text, datetime)
        except (msgspec.ValidationError, UnicodeEncodeError):
            raise ValidationError(
                "timestamp", f"{text[:40]!r} is not ISO 8601, such as 2026-11-23T07:00:00.123Z"
            ) from None
        if len(text) == 24 and text[10] == "T" and text[23] == "Z":  # noqa: PLR2004 - the result's format
            return str.__str__(text)
    if not isinstance(value, datetime):
        fix = "add a time of day" if isinstance(value, date) else "pass a datetime"
        raise ValidationError("timestamp", f"must be a datetime, {type_name(value)}: {fix}")
    try:
        utc = _aware(value).astimezone(timezone.utc)
    except (OverflowError, ValueError):
        raise ValidationError("timestamp", f"{value} is out of range in UTC") from None
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z".rjust(24, "0")


def _aware(value: datetime) -> datetime:
    """Return a datetime with a time zone.

    A naive one within five seconds of this machine's clock is taken for the result of
    ``datetime.now()``, which is local time; any other is taken for UTC. Segment's Python
    library uses the same rule.
    """
    if value.utcoffset() is not None:
        return value
    naive = value.replace(tzinfo=None)
    age = (datetime.now() - naive).total_seconds()  # noqa: DTZ005 - naive against naive
    return naive.astimezone() if abs(age) < 5 else naive.replace(tzinfo=timezone.utc)  # noqa: PLR2004


#: Parsers by field; ``build_message`` parses message_id, timestamp and context itself.
PARSE: dict[str, Callable[[str, Any], Any]] = {
    "user_id": identifier,
    "anonymous_id": identifier,
    "previous_id": identifier,
    "group_id": identifier,
    "event": _text,
    "category": _text,
    "name": _text,
    "properties": json_object,
    "traits": json_object,
    "integrations": json_object,
}

#: Type by field of the values that need no parser, unless they are empty.
PLAIN = {field: dict if parse is json_object else str for field, parse in PARSE.items()}
