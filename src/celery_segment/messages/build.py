"""Build a message from the arguments of a call. No I/O.

Every message is built by ``build_message``, except those decoded from a file, which
``complete`` finishes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import msgspec

from celery_segment.errors import NoIdentity, ValidationError
from celery_segment.messages.encoding import opened
from celery_segment.messages.fields import PLAIN, parse
from celery_segment.messages.paths import shown_key
from celery_segment.messages.standing import class_name
from celery_segment.messages.typed import given_twice, with_version
from celery_segment.messages.types import TYPES, Message, Object, Page
from celery_segment.version import __version__
from celery_segment.visitor import Block, Known, Visitor, is_request, outer_of

__all__ = ["LIBRARY", "RAW_LIBRARY", "build_message", "complete", "from_wire", "message_id_from"]

LIBRARY = {"name": "celery-segment", "version": __version__}
RAW_LIBRARY = msgspec.Raw(msgspec.json.encode(LIBRARY))
_CONTEXT = msgspec.Raw(msgspec.json.encode({"library": LIBRARY}))

#: What analytics.js puts into the properties of ``page`` as well as into ``context.page``.
_PAGE = ("path", "referrer", "search", "title", "url")

M = TypeVar("M", bound=Message)


class Attempt(Protocol):
    """An attempt to run a Celery task, as far as its calls' messages depend on it."""

    @property
    def visitor(self) -> Visitor | None:
        """The visitor whose request has started the task."""

    @property
    def identify(self) -> Callable[[Message], str | None] | None:
        """Return the id of a message that is given none; None where that is to be a random one.

        The message that it gets has neither an id nor a timestamp, and of the context what it
        was given.
        """


def build_message(  # noqa: C901 - a branch for each argument
    kind: type[M],
    visitor: Visitor | None = None,
    attempt: Attempt | None = None,
    *,
    context: Any = None,
    timestamp: Any = None,
    message_id: Any = None,
    **own: Any,
) -> M:
    """Validate the arguments of a call and return its message.

    The caller's objects are never changed. By default, ``message_id`` is the attempt's, or a new
    UUID, and ``timestamp`` is the current time; both stay the same across retries. Ids and context
    that are not given are the visitor's, unless the call is about another person.

    Args:
        kind: The class of the message.
        visitor: The visitor of the current block or request, if there is one.
        attempt: The attempt to run a Celery task in which the call is made, if there is one.
        context: The context of the call; its values win over the visitor's.
        timestamp: A datetime or an ISO 8601 string.
        message_id: A string of 1 to 100 characters, or a UUID.
        own: The other fields of ``kind``; a field that is not given is None.

    Raises:
        ValidationError: A value is invalid or missing. The error has the field, the
            value's type and how to fix it.
    """
    typed = None
    for field, value in own.items():
        if value is None or (type(value) is PLAIN[field] and value):
            continue
        if field == "event" and (read := getattr(type(value), "__segment_event__", None)):
            typed = read(value)
        else:
            own[field] = parse(field, value)
    if typed is not None:
        context = _add_event(own, context, *typed)
    for field in kind.required:
        if own[field] is None:
            raise ValidationError(field, f"is required by {kind.__name__.lower()}")
    if attempt is not None and visitor is None:
        visitor = attempt.visitor
    if visitor is not None:
        context = _add_visitors(kind, own, context, visitor)
    if kind.identity and own["user_id"] is None and own["anonymous_id"] is None:
        raise _no_identity(visitor)
    if message_id is not None:
        message_id = parse("message_id", message_id)
    if message_id is None and attempt is not None and attempt.identify is not None:
        given = None if context is None else parse("context", context)
        message_id = attempt.identify(kind(message_id="", timestamp="", context=given, **own))
    return kind(
        message_id=new_message_id() if message_id is None else message_id,
        timestamp=now() if timestamp is None else _timestamp(timestamp),
        context=_CONTEXT if context is None else _context(context),
        **own,
    )


def _no_identity(visitor: Visitor | None) -> NoIdentity:
    hint = ""
    if is_request(visitor):
        hint = "; this request's visitor has neither: see segment_set_anonymous_id"
    return NoIdentity(
        "user_id",
        f"give user_id or anonymous_id: Segment drops messages without an identity{hint}",
    )


def _add_event(
    own: dict[str, Any], context: Any, name: str, version: int | None, properties: Object
) -> Any:
    """Fill in what a typed event says, and return the call's context with its version."""
    if own["properties"] is not None:
        raise given_twice("properties")
    own["event"], own["properties"] = name, properties
    return context if version is None else with_version(parse("context", context), version)


def _add_visitors(kind: type[Message], own: dict[str, Any], context: Any, visitor: Visitor) -> Any:
    """Do what ``_add_visitor`` does for a visitor and those around it, the innermost first."""
    around: Visitor | None = visitor
    while around is not None:
        context = _add_visitor(kind, own, context, around)
        around = outer_of(around)
    return context


def _add_visitor(kind: type[Message], own: dict[str, Any], context: Any, visitor: Visitor) -> Any:
    """Fill in the ids that a call leaves out, and return its context merged into the visitor's.

    As with analytics.js, the properties of ``page`` have what is known of the page; those
    that the call gives win.

    A call about another person than the visitor, such as an administrator's call about a
    customer, gets neither: Segment would attribute the visitor's IP address, device and
    page to that person.
    """
    known = {"user_id": visitor.user_id, "anonymous_id": visitor.anonymous_id}
    theirs = {field: parse(field, value) for field, value in known.items()}
    named = next((field for field in theirs if own.get(field) is not None), None)
    if named and theirs[named] not in (None, own[named]):
        return context
    is_theirs = named is None or (named == "user_id" and theirs["user_id"] is not None)
    if is_theirs or isinstance(visitor, Block):
        if theirs["anonymous_id"] is None and "anonymous_id" in own:
            theirs["anonymous_id"] = visitor.new_anonymous_id()
        for field, value in theirs.items():
            if field in own and own[field] is None:  # an alias has no anonymous_id
                own[field] = value
    if isinstance(visitor, Known) and visitor.integrations:
        own["integrations"] = {**visitor.integrations, **(own["integrations"] or {})}
    given: Mapping[str, Any] = {**visitor.context, **(parse("context", context) or {})}
    page = given.get("page")
    if kind is Page and isinstance(page, Mapping):
        shown = {name: page[name] for name in _PAGE if name in page}
        own["properties"] = {**shown, **opened(own.get("properties") or {})} or None
    return given


def complete(message: M) -> M | None:
    """Finish a message that was decoded from its wire form, with the result of ``build_message``.

    The caller has checked that the required fields are present and that no text is empty.

    Returns:
        The same message; None if it has no identity.

    Raises:
        ValidationError: The timestamp is invalid, or the context is not a mapping.
    """
    if message.user_id is None and message.anonymous_id is None and message.identity:
        return None
    message.timestamp = _timestamp(message.timestamp)
    message.context = _CONTEXT if message.context is None else _context(message.context)
    return message


def from_wire(content: Mapping[str, Any]) -> Message:
    """Build a message from its wire form: ``{"type": "track", "userId": …}``.

    Raises:
        ValidationError: As in ``build_message``, or the type or a field is unknown.
    """
    given = dict(content)
    type_ = given.pop("type", None)
    kind = TYPES.get(type_) if isinstance(type_, str) else None
    if kind is None:
        wrong = "this text" if isinstance(type_, str) else class_name(type_)
        raise ValidationError("type", f"must be one of {', '.join(TYPES)}, not {wrong}")
    names = dict(zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True))
    for place, name in enumerate(given):
        if name not in names:
            problem = f"is not a field of {type_}: put it into properties"
            raise ValidationError(shown_key(name, place), problem)
    return build_message(kind, **{field: given.get(name) for name, field in names.items()})


def _timestamp(value: Any) -> str:
    return parse("timestamp", value) or now()


def _context(value: Any) -> dict[str, Any]:
    return {**(parse("context", value) or {}), "library": RAW_LIBRARY}


_clock: tuple[int, str] = (0, "")
_MILLISECONDS = tuple(f"{number:03d}Z" for number in range(1000))


def now() -> str:
    """Return the current time in Segment's format: UTC, ISO 8601, milliseconds.

    The part down to the second is formatted once a second and reused.
    """
    global _clock  # noqa: PLW0603 - one tuple, replaced atomically
    milliseconds = int(time.time() * 1000)
    second = milliseconds // 1000
    known, text = _clock
    if known != second:
        text = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
        _clock = (second, text)
    return text + _MILLISECONDS[milliseconds % 1000]


#: The digit that says which variant of UUID it is, by a random one.
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def new_message_id() -> str:
    """Return a random UUID (RFC 9562, version 4), in a third of the time that ``uuid`` takes.

    None is made ahead: a process that is forked would give its parent's.
    """
    h = os.urandom(16).hex()
    return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-{_VARIANT[h[16]]}{h[17:20]}-{h[20:]}"


def message_id_from(digest: bytes) -> str:
    """Return the UUID that a digest of 16 bytes makes (RFC 9562, version 8)."""
    h = digest.hex()
    return f"{h[:8]}-{h[8:12]}-8{h[13:16]}-{_VARIANT[h[16]]}{h[17:20]}-{h[20:]}"
