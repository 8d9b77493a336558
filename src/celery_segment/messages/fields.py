"""What the fields of a message may be. No I/O.

Each function returns the value to send, or raises ``ValidationError`` naming the field,
what was given and the mend.
"""

from __future__ import annotations

import os
import time
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
    "new_message_id",
    "now",
    "parse_message_id",
    "parse_timestamp",
    "type_name",
]

#: Segment deduplicates by messageId, of at most this many characters.
MAX_MESSAGE_ID = 100


def type_name(value: Any) -> str:
    """Return what to say of a value of a wrong type."""
    return f"not {type(value).__name__}"


def identifier(field: str, value: Any) -> str | None:
    """Parse the id of a user or a group: text, whole numbers and UUIDs are sent as text."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, str):
        return str.__str__(value) or None
    try:
        if isinstance(value, int | UUID) and not isinstance(value, bool):
            return str(value)
        if isinstance(value, float | Decimal) and -1e300 < value < 1e300 and value == int(value):  # noqa: PLR2004 - finite
            return str(int(value))
    except (ValueError, ArithmeticError):  # thousands of digits; a Decimal NaN
        pass
    raise ValidationError(field, f"must be a string, a whole number or a UUID, {type_name(value)}")


def _text(field: str, value: Any) -> str | None:
    if isinstance(value, Enum):
        value = value.value
    if not isinstance(value, str):
        raise ValidationError(field, f"must be a string, {type_name(value)}")
    return str.__str__(value) or None


def json_object(field: str, value: Any) -> dict[str, Any]:
    """Parse a mapping."""
    if isinstance(value, dict):
        return value
    if isinstance(value, Mapping):
        return dict(value)
    raise ValidationError(field, f"must be a dict, {type_name(value)}")


def parse_message_id(value: Any) -> str:
    """Parse an id of the caller's own."""
    text = str(value) if isinstance(value, UUID) else value
    if not isinstance(text, str):
        raise ValidationError("message_id", f"must be a string or a UUID, {type_name(value)}")
    if not 0 < len(text) <= MAX_MESSAGE_ID:
        raise ValidationError(
            "message_id", f"has {len(text)} characters and Segment takes 1 to {MAX_MESSAGE_ID}"
        )
    return str.__str__(text)


def parse_timestamp(value: Any) -> str:
    """Parse a time, and write it as Segment does: UTC, ISO 8601, milliseconds."""
    if isinstance(value, str):
        text = value
        try:
            value = msgspec.convert(text, datetime)
        except (msgspec.ValidationError, UnicodeEncodeError):
            raise ValidationError(
                "timestamp", f"{text[:40]!r} is not ISO 8601, such as 2026-11-23T07:00:00.123Z"
            ) from None
        if len(text) == 24 and text[10] == "T" and text[23] == "Z":  # noqa: PLR2004 - as below
            return str.__str__(text)
    if not isinstance(value, datetime):
        mend = "give it a time of day" if isinstance(value, date) else "give a datetime"
        raise ValidationError("timestamp", f"must be a datetime, {type_name(value)}: {mend}")
    try:
        utc = _aware(value).astimezone(timezone.utc)
    except (OverflowError, ValueError):
        raise ValidationError("timestamp", f"{value} is out of range in UTC") from None
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z".rjust(24, "0")


def _aware(value: datetime) -> datetime:
    """Give a naive datetime its zone.

    As Segment's Python library does: one within five seconds of this machine's
    clock came from ``datetime.now()`` and is local time, any other is UTC.
    """
    if value.utcoffset() is not None:
        return value
    naive = value.replace(tzinfo=None)
    age = (datetime.now() - naive).total_seconds()  # noqa: DTZ005 - naive against naive
    return naive.astimezone() if abs(age) < 5 else naive.replace(tzinfo=timezone.utc)  # noqa: PLR2004


_clock: tuple[int, str] = (0, "")
_MILLISECONDS = tuple(f"{number:03d}Z" for number in range(1000))


def now() -> str:
    """Return the time as Segment writes it. The date is formatted once a second."""
    global _clock  # noqa: PLW0603 - one tuple, replaced whole: threads see the old or the new
    milliseconds = int(time.time() * 1000)
    second = milliseconds // 1000
    known, text = _clock
    if known != second:
        text = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
        _clock = (second, text)
    return text + _MILLISECONDS[milliseconds % 1000]


def new_message_id() -> str:
    """Return a random UUID (RFC 9562, version 4)."""
    try:
        return _ready_ids.pop()
    except IndexError:
        _ready_ids.extend(_uuids(os.urandom(16 * _AT_ONCE).hex()))
        return _ready_ids.pop()


def _uuids(h: str) -> list[str]:
    return [
        f"{h[i : i + 8]}-{h[i + 8 : i + 12]}-4{h[i + 13 : i + 16]}"
        f"-{'89ab'[int(h[i + 16], 16) & 3]}{h[i + 17 : i + 20]}-{h[i + 20 : i + 32]}"
        for i in range(0, len(h), 32)
    ]


#: The system's random numbers cost less by the dozen. A pop is atomic, so no two threads
#: get the same one; and a forked child must not have its parent's.
_AT_ONCE = 16
_ready_ids: list[str] = []
os.register_at_fork(after_in_child=_ready_ids.clear)


#: The parsers of the fields that only some calls have, or that identify.
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

#: The type of a value that, unless it is empty, needs no parser.
PLAIN = {field: dict if parse is json_object else str for field, parse in PARSE.items()}
