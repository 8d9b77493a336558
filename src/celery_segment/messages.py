"""Arguments become a validated message, and a message its bytes. No I/O.

The six structs are Segment's six calls, field by field (Segment Spec: identify,
track, page, screen, group, alias); ``make`` is the one way to build them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from datetime import date, datetime, timezone
from decimal import Decimal
from enum import Enum
from typing import Any, ClassVar, TypeVar
from uuid import UUID

import msgspec

from celery_segment.encoding import encode, encode_value
from celery_segment.errors import MessageTooLarge, ValidationError
from celery_segment.version import __version__

__all__ = [
    "MAX_MESSAGE_BYTES",
    "Alias",
    "Group",
    "Identify",
    "Message",
    "Page",
    "Screen",
    "Track",
    "add_defaults",
    "arguments",
    "changed",
    "decode",
    "from_wire",
    "make",
    "to_bytes",
]

#: Segment's limit for one message: 32 KB of UTF-8 JSON (HTTP Tracking API, "Max request size").
MAX_MESSAGE_BYTES = 32_768
#: Segment deduplicates by messageId, of at most this many characters.
MAX_MESSAGE_ID = 100

LIBRARY = {"name": "celery-segment", "version": __version__}
_LIBRARY = msgspec.Raw(msgspec.json.encode(LIBRARY))
_CONTEXT = msgspec.Raw(msgspec.json.encode({"library": LIBRARY}))


class Message(
    msgspec.Struct, kw_only=True, omit_defaults=True, rename="camel", tag_field="type", tag=False
):
    """What the six calls share. Times are UTC, ISO 8601 with milliseconds."""

    #: What identifies the subject: at least one of these fields must be given.
    identity: ClassVar[tuple[str, ...]] = ("user_id", "anonymous_id")
    #: The fields that must be given besides.
    required: ClassVar[tuple[str, ...]] = ()

    message_id: str
    timestamp: str
    user_id: str | None = None
    anonymous_id: str | None = None
    context: dict[str, Any] | msgspec.Raw | None = None
    integrations: dict[str, Any] | None = None


class Identify(Message, tag="identify"):
    """Who a user is: ``traits``."""

    traits: dict[str, Any] | None = None


class Track(Message, tag="track"):
    """What a user did: ``event`` and its ``properties``."""

    required = ("event",)

    event: str
    properties: dict[str, Any] | None = None


class Page(Message, tag="page"):
    """Which page of a website a user saw."""

    category: str | None = None
    name: str | None = None
    properties: dict[str, Any] | None = None


class Screen(Message, tag="screen"):
    """Which screen of an application a user saw."""

    category: str | None = None
    name: str | None = None
    properties: dict[str, Any] | None = None


class Group(Message, tag="group"):
    """Which group a user belongs to, and the group's ``traits``."""

    required = ("group_id",)

    group_id: str
    traits: dict[str, Any] | None = None


class Alias(Message, tag="alias"):
    """That two ids are the same user's."""

    identity = ()
    required = ("previous_id", "user_id")

    previous_id: str


M = TypeVar("M", bound=Message)


def make(
    kind: type[M], *, context: Any = None, timestamp: Any = None, message_id: Any = None, **own: Any
) -> M:
    """Validate the arguments of a call and return its message.

    The caller's objects are never changed. An absent ``message_id`` is minted,
    an absent ``timestamp`` is now; both stay the message's for good.

    Raises:
        ValidationError: Names the field, what was given and the mend.
    """
    for field, value in own.items():
        # What most calls give is as it should be.
        if value is None or (type(value) is _PLAIN[field] and value):
            continue
        own[field] = _PARSE[field](field, value)
    for field in kind.required:
        if own[field] is None:
            raise ValidationError(field, f"is required by {kind.__name__.lower()}")
    if kind.identity and own["user_id"] is None and own["anonymous_id"] is None:
        raise ValidationError(
            "user_id", "give user_id or anonymous_id: Segment drops messages without an identity"
        )
    return kind(
        message_id=_mint() if message_id is None else _message_id(message_id),
        timestamp=_now() if timestamp is None else _timestamp(timestamp),
        context=_CONTEXT if context is None else _context(context),
        **own,
    )


def from_wire(content: Mapping[str, Any]) -> Message:
    """Validate a message that is given as it is sent: ``{"type": "track", "userId": …}``.

    Raises:
        ValidationError: As ``make``; or there is no such type, or no such field.
    """
    given = dict(content)
    type_ = given.pop("type", None)
    kind = _KINDS.get(type_) if isinstance(type_, str) else None
    if kind is None:
        raise ValidationError("type", f"must be one of {', '.join(_KINDS)}, not {type_!r:.40}")
    names = dict(zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True))
    unknown = given.keys() - names.keys()
    if unknown:
        raise ValidationError(min(unknown), f"is no field of {type_}: put it into properties")
    return make(kind, **{field: given.get(name) for name, field in names.items()})


def changed(message: M, hook: Callable[[dict[str, Any]], Any]) -> Message | None:
    """Return what a hook makes of a message; None when it returns None.

    The hook gets the message as it is sent, and returns the like, which is validated.

    Raises:
        ValidationError: The hook returned what is no message, or another messageId.
    """
    content = hook(decode(to_bytes(message)))
    if content is None:
        return None
    if not isinstance(content, Mapping):
        raise ValidationError(
            "segment_before_send", f"must return the message or None, {_kind(content)}"
        )
    if content.get("messageId") != message.message_id:
        raise ValidationError("segment_before_send", "must leave the messageId as it is")
    return from_wire(content)


def add_defaults(
    message: Message, context: dict[str, Any] | None, integrations: dict[str, Any] | None
) -> None:
    """Give a message what it does not say itself of its source's context and destinations."""
    if context:
        given = message.context if isinstance(message.context, dict) else {"library": _LIBRARY}
        message.context = {**context, **given}
    if integrations:
        message.integrations = {**integrations, **(message.integrations or {})}


def to_bytes(message: Message) -> bytes:
    """Encode a message as it will stand in the request.

    Raises:
        ValidationError: A value has no JSON form.
        MessageTooLarge: The bytes exceed ``MAX_MESSAGE_BYTES``.
    """
    data = encode(message)
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


def arguments(data: bytes) -> dict[str, Any]:
    """Return the keyword arguments that make the message of these bytes again.

    They are JSON-safe, but for the Decimals that stand where a float would lose
    digits, and that Celery's own JSON carries.
    """
    content = decode(data)
    del content["type"]
    return {_SNAKE[name]: value for name, value in content.items()}


# ---------------------------------------------------------------- fields


def _kind(value: Any) -> str:
    return f"not {type(value).__name__}"


def _identifier(field: str, value: Any) -> str | None:
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
    raise ValidationError(field, f"must be a string, a whole number or a UUID, {_kind(value)}")


def _text(field: str, value: Any) -> str | None:
    if isinstance(value, Enum):
        value = value.value
    if not isinstance(value, str):
        raise ValidationError(field, f"must be a string, {_kind(value)}")
    return str.__str__(value) or None


def _object(field: str, value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    if isinstance(value, Mapping):
        return dict(value)
    raise ValidationError(field, f"must be a dict, {_kind(value)}")


def _context(value: Any) -> dict[str, Any]:
    return {**_object("context", value), "library": _LIBRARY}


def _message_id(value: Any) -> str:
    text = str(value) if isinstance(value, UUID) else value
    if not isinstance(text, str):
        raise ValidationError("message_id", f"must be a string or a UUID, {_kind(value)}")
    if not 0 < len(text) <= MAX_MESSAGE_ID:
        raise ValidationError(
            "message_id", f"has {len(text)} characters and Segment takes 1 to {MAX_MESSAGE_ID}"
        )
    return str.__str__(text)


def _timestamp(value: Any) -> str:
    if isinstance(value, str):
        try:
            value = msgspec.convert(value, datetime)
        except (msgspec.ValidationError, UnicodeEncodeError):
            raise ValidationError(
                "timestamp", f"{value[:40]!r} is not ISO 8601, such as 2026-11-23T07:00:00.123Z"
            ) from None
    if not isinstance(value, datetime):
        mend = "give it a time of day" if isinstance(value, date) else "give a datetime"
        raise ValidationError("timestamp", f"must be a datetime, {_kind(value)}: {mend}")
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


def _now() -> str:
    """Return the time as Segment writes it. The date is formatted once a second."""
    global _clock  # noqa: PLW0603 - one tuple, replaced whole: threads see the old or the new
    milliseconds = int(time.time() * 1000)
    second = milliseconds // 1000
    known, text = _clock
    if known != second:
        text = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
        _clock = (second, text)
    return f"{text}{milliseconds % 1000:03d}Z"


def _mint() -> str:
    """Return a random UUID (RFC 9562, version 4)."""
    try:
        return _minted.pop()
    except IndexError:
        _minted.extend(_uuids(os.urandom(16 * _AT_ONCE).hex()))
        return _minted.pop()


def _uuids(h: str) -> list[str]:
    return [
        f"{h[i : i + 8]}-{h[i + 8 : i + 12]}-4{h[i + 13 : i + 16]}"
        f"-{'89ab'[int(h[i + 16], 16) & 3]}{h[i + 17 : i + 20]}-{h[i + 20 : i + 32]}"
        for i in range(0, len(h), 32)
    ]


#: The system's random numbers cost less by the dozen. A pop is atomic, so no two threads
#: get the same one; and a forked child must not have its parent's.
_AT_ONCE = 16
_minted: list[str] = []
os.register_at_fork(after_in_child=_minted.clear)


def _number(text: str) -> float | Decimal:
    number, exact = float(text), Decimal(text)
    return number if Decimal(repr(number)) == exact else exact


_decoder = msgspec.json.Decoder(dict[str, Any], float_hook=_number)

_PARSE: dict[str, Callable[[str, Any], Any]] = {
    "user_id": _identifier,
    "anonymous_id": _identifier,
    "previous_id": _identifier,
    "group_id": _identifier,
    "event": _text,
    "category": _text,
    "name": _text,
    "properties": _object,
    "traits": _object,
    "integrations": _object,
}

_PLAIN = {field: dict if parse is _object else str for field, parse in _PARSE.items()}

_KINDS: dict[str, type[Message]] = {
    kind.__name__.lower(): kind for kind in (Identify, Track, Page, Screen, Group, Alias)
}
_SNAKE = {
    encoded: name
    for kind in _KINDS.values()
    for name, encoded in zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True)
}
