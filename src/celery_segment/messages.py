"""Arguments become a validated message, and a message its bytes. No I/O.

The six structs are Segment's six calls, field by field (Segment Spec: identify,
track, page, screen, group, alias); ``make`` is the one way to build them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, ClassVar, TypeVar

import msgspec

from celery_segment.ambient import Visitor
from celery_segment.encoding import encode, encode_value
from celery_segment.errors import MessageTooLarge, ValidationError
from celery_segment.fields import (
    PARSE,
    PLAIN,
    identifier,
    json_object,
    kind_of,
    mint,
    now,
    parse_message_id,
    parse_timestamp,
)
from celery_segment.version import __version__

__all__ = [
    "ARGUMENTS",
    "KINDS",
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
    "complete",
    "decode",
    "from_wire",
    "make",
    "number",
    "to_bytes",
]

#: Segment's limit for one message: 32 KB of UTF-8 JSON (HTTP Tracking API, "Max request size").
MAX_MESSAGE_BYTES = 32_768

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


#: The six calls by the type of their messages.
KINDS: dict[str, type[Message]] = {
    kind.__name__.lower(): kind for kind in (Identify, Track, Page, Screen, Group, Alias)
}
#: The names of the arguments by the names on the wire.
ARGUMENTS = {
    encoded: name
    for kind in KINDS.values()
    for name, encoded in zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True)
}

M = TypeVar("M", bound=Message)


def make(
    kind: type[M],
    visitor: Visitor | None = None,
    *,
    context: Any = None,
    timestamp: Any = None,
    message_id: Any = None,
    **own: Any,
) -> M:
    """Validate the arguments of a call and return its message.

    The caller's objects are never changed. An absent ``message_id`` is minted,
    an absent ``timestamp`` is now; both stay the message's for good. What else is
    absent is the visitor's, where there is one and the call is not about another.

    Raises:
        ValidationError: Names the field, what was given and the mend.
    """
    for field, value in own.items():
        # What most calls give is as it should be.
        if value is None or (type(value) is PLAIN[field] and value):
            continue
        own[field] = PARSE[field](field, value)
    for field in kind.required:
        if own[field] is None:
            raise ValidationError(field, f"is required by {kind.__name__.lower()}")
    if visitor is not None:
        context = _add_visitor(own, context, visitor)
    if kind.identity and own["user_id"] is None and own["anonymous_id"] is None:
        nobody = ""
        if visitor is not None:
            nobody = "; of this request's visitor neither is known: see segment_set_anonymous_id"
        raise ValidationError(
            "user_id",
            f"give user_id or anonymous_id: Segment drops messages without an identity{nobody}",
        )
    return kind(
        message_id=mint() if message_id is None else parse_message_id(message_id),
        timestamp=now() if timestamp is None else parse_timestamp(timestamp),
        context=_CONTEXT if context is None else _context(context),
        **own,
    )


def _add_visitor(own: dict[str, Any], context: Any, visitor: Visitor) -> Any:
    """Give a call the ids that it leaves out; return its context upon the visitor's.

    A call about another person than the visitor gets nothing: the ip, the device and the
    page of the one who acts would be taken for those of the one acted upon.
    """
    known = {"user_id": visitor.user_id, "anonymous_id": visitor.anonymous_id}
    theirs = {f: None if value is None else identifier(f, value) for f, value in known.items()}
    named = next((field for field in theirs if own.get(field) is not None), None)
    if named and theirs[named] not in (None, own[named]):
        return context
    if named is None or (named == "user_id" and theirs["user_id"] is not None):
        if theirs["anonymous_id"] is None and "anonymous_id" in own:
            theirs["anonymous_id"] = visitor.new_anonymous_id()
        for field, value in theirs.items():
            if field in own and own[field] is None:  # an alias has no anonymous_id
                own[field] = value
    return {**visitor.context, **({} if context is None else json_object("context", context))}


def complete(message: M) -> M | None:
    """Finish a message that was decoded from its wire form, as ``make`` would have made it.

    None when it has no identity. Its texts are not empty, and its required fields are there.

    Raises:
        ValidationError: The timestamp is none.
    """
    if message.user_id is None and message.anonymous_id is None and message.identity:
        return None
    message.timestamp = parse_timestamp(message.timestamp)
    message.context = _CONTEXT if message.context is None else _context(message.context)
    return message


def from_wire(content: Mapping[str, Any]) -> Message:
    """Validate a message that is given as it is sent: ``{"type": "track", "userId": …}``.

    Raises:
        ValidationError: As ``make``; or there is no such type, or no such field.
    """
    given = dict(content)
    type_ = given.pop("type", None)
    kind = KINDS.get(type_) if isinstance(type_, str) else None
    if kind is None:
        raise ValidationError("type", f"must be one of {', '.join(KINDS)}, not {type_!r:.40}")
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
            "segment_before_send", f"must return the message or None, {kind_of(content)}"
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
    return {ARGUMENTS[name]: value for name, value in content.items()}


def number(text: str) -> float | Decimal:
    """Return a JSON number with a point or an exponent: a float, unless that loses digits."""
    value = float(text)
    # Fifteen digits are kept in any case.
    if len(text) <= 16 and "e" not in text and "E" not in text:  # noqa: PLR2004 - and a point
        return value
    exact = Decimal(text)
    return value if Decimal(repr(value)) == exact else exact


def _context(value: Any) -> dict[str, Any]:
    return {**json_object("context", value), "library": _LIBRARY}


_decoder = msgspec.json.Decoder(dict[str, Any], float_hook=number)
