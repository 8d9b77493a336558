"""Find what Segment would refuse of a message, or drop in silence. No I/O.

Segment answers 200 to almost anything, and drops what it cannot use. The rules are those of its
HTTP API ("Validation", "Limits") and of the Spec's common fields.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from celery_segment.errors import ValidationError
from celery_segment.messages import ARGUMENTS, TYPES, parse
from celery_segment.messages.fields import MAX_MESSAGE_ID
from celery_segment.testing.protocol import MAX_MESSAGE_BYTES

__all__ = ["Violation", "violations_of"]


class Violation(NamedTuple):
    """A rule that a message violates.

    Attributes:
        path: The place in the message, such as ``context.ip``; "" for the message as a whole.
        text: What is wrong there, without the value.
    """

    path: str
    text: str


#: What JSON calls the classes of its values.
_NAMES = MappingProxyType({
    bool: "a boolean",
    dict: "an object",
    float: "a number",
    int: "a number",
    list: "a list",
    str: "a string",
    type(None): "null",
})  # fmt: skip
_IDS = ("userId", "anonymousId", "groupId", "previousId")
_TIMES = ("timestamp", "originalTimestamp", "sentAt", "receivedAt")
#: The fields whose values have to be of a class, where they are there at all.
_CLASSES: Mapping[str, type] = MappingProxyType({
    **dict.fromkeys(("event", "name", "category", *_IDS), str),
    **dict.fromkeys(("properties", "traits", "context", "integrations"), dict),
})  # fmt: skip
#: Likewise, of the fields of ``context`` (Spec: Common Fields, "Context").
_CONTEXT: Mapping[str, type] = MappingProxyType({
    "active": bool,
    **dict.fromkeys(("groupId", "ip", "locale", "timezone", "userAgent"), str),
    **dict.fromkeys(("app", "campaign", "device", "library", "location", "network"), dict),
    **dict.fromkeys(("os", "page", "referrer", "screen", "traits"), dict),
})  # fmt: skip
#: Names of this library's arguments, and of other languages' habits, by the fields that are meant.
_MISSPELT = MappingProxyType({name: field for field, name in ARGUMENTS.items() if name != field})


def violations_of(content: Mapping[str, Any], size: int) -> Iterator[Violation]:
    """Find the rules of Segment that a message violates.

    Args:
        content: The message, as it was decoded from its JSON.
        size: The size of its JSON, in bytes.
    """
    if size > MAX_MESSAGE_BYTES:
        yield Violation("", f"has {size:,} bytes; Segment accepts {MAX_MESSAGE_BYTES:,}")
    yield from _message_id(content.get("messageId"))
    yield from _kind(content)
    yield from _wrong_classes(content, _CLASSES, "")
    context = content.get("context")
    if isinstance(context, dict):
        yield from _wrong_classes(context, _CONTEXT, "context.")
    yield from _times(content)
    for name in content:
        if meant := _MISSPELT.get(name):
            yield Violation(name, f"is not a field of Segment, which ignores it: {meant} is")


def _message_id(value: Any) -> Iterator[Violation]:
    if not isinstance(value, str):
        known = "is missing" if value is None else f"must be a string, not {_NAMES[type(value)]}"
        yield Violation("messageId", f"{known}: Segment cannot tell a retry from a new message")
    elif not 0 < len(value) <= MAX_MESSAGE_ID:
        text = f"has {len(value)} characters; Segment accepts 1 to {MAX_MESSAGE_ID}"
        yield Violation("messageId", text)


def _kind(content: Mapping[str, Any]) -> Iterator[Violation]:
    """Find what a message of its type lacks."""
    type_ = content.get("type")
    kind = TYPES.get(type_) if isinstance(type_, str) else None
    if kind is None:
        wrong = "is missing" if type_ is None else "is unknown to Segment"
        yield Violation("type", f"{wrong}: it is one of {', '.join(TYPES)}")
        return
    fields = dict(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True))
    for name in map(fields.__getitem__, kind.required):
        if content.get(name) in (None, ""):
            yield Violation(name, f"is missing: {type_} needs it")
    identity = [fields[name] for name in kind.identity]
    if identity and all(content.get(name) in (None, "") for name in identity):
        yield Violation(identity[0], f"is missing, and so is {identity[1]}: Segment drops this")


def _wrong_classes(
    content: Mapping[str, Any], classes: Mapping[str, type], above: str
) -> Iterator[Violation]:
    for name, value in content.items():
        kind = classes.get(name)
        if kind is not None and value is not None and not isinstance(value, kind):
            yield Violation(above + name, f"must be {_NAMES[kind]}, not {_NAMES[type(value)]}")


def _times(content: Mapping[str, Any]) -> Iterator[Violation]:
    for name in _TIMES:
        value = content.get(name)
        if value is None:
            continue
        if not isinstance(value, str):
            yield Violation(name, f"must be a text of ISO 8601, not {_NAMES[type(value)]}")
            continue
        try:
            parse("timestamp", value)
        except ValidationError as error:
            yield Violation(name, error.problem)
