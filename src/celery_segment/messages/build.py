"""A call's arguments become a message: ``build_message`` is the one way to make one. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from celery_segment.errors import ValidationError
from celery_segment.messages.fields import (
    PARSE,
    PLAIN,
    identifier,
    json_object,
    new_message_id,
    now,
    parse_message_id,
    parse_timestamp,
)
from celery_segment.messages.types import TYPES, Message
from celery_segment.version import __version__
from celery_segment.visitor import Visitor

__all__ = ["LIBRARY", "RAW_LIBRARY", "build_message", "complete", "from_wire"]

LIBRARY = {"name": "celery-segment", "version": __version__}
RAW_LIBRARY = msgspec.Raw(msgspec.json.encode(LIBRARY))
_CONTEXT = msgspec.Raw(msgspec.json.encode({"library": LIBRARY}))

M = TypeVar("M", bound=Message)


def build_message(
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
        message_id=new_message_id() if message_id is None else parse_message_id(message_id),
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
    """Finish a message decoded from its wire form, as ``build_message`` makes it.

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
        ValidationError: As ``build_message``; or there is no such type, or no such field.
    """
    given = dict(content)
    type_ = given.pop("type", None)
    kind = TYPES.get(type_) if isinstance(type_, str) else None
    if kind is None:
        raise ValidationError("type", f"must be one of {', '.join(TYPES)}, not {type_!r:.40}")
    names = dict(zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True))
    unknown = given.keys() - names.keys()
    if unknown:
        raise ValidationError(min(unknown), f"is no field of {type_}: put it into properties")
    return build_message(kind, **{field: given.get(name) for name, field in names.items()})


def _context(value: Any) -> dict[str, Any]:
    return {**json_object("context", value), "library": RAW_LIBRARY}
