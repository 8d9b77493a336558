"""Build validated messages from arguments, and encode them to bytes. No I/O."""

from __future__ import annotations

from celery_segment.messages.build import (
    LIBRARY,
    build_message,
    complete,
    from_wire,
    message_id_from,
)
from celery_segment.messages.defaults import add_defaults, run_hook
from celery_segment.messages.encoding import (
    MAX_MESSAGE_BYTES,
    call_arguments,
    content_of,
    decode,
    encode,
    encode_value,
    is_shallow,
    opened,
    parse_number,
)
from celery_segment.messages.fields import parse
from celery_segment.messages.typed import (
    TypedEvent,
    TypedProperties,
    TypedTraits,
    with_version,
)
from celery_segment.messages.types import (
    ARGUMENTS,
    TYPES,
    Alias,
    Group,
    Identify,
    Message,
    Object,
    Page,
    Screen,
    Track,
)
from celery_segment.messages.values import plain_field

__all__ = [
    "ARGUMENTS",
    "LIBRARY",
    "MAX_MESSAGE_BYTES",
    "TYPES",
    "Alias",
    "Group",
    "Identify",
    "Message",
    "Object",
    "Page",
    "Screen",
    "Track",
    "TypedEvent",
    "TypedProperties",
    "TypedTraits",
    "add_defaults",
    "build_message",
    "call_arguments",
    "complete",
    "content_of",
    "decode",
    "encode",
    "encode_value",
    "from_wire",
    "is_shallow",
    "message_id_from",
    "opened",
    "parse",
    "parse_number",
    "plain_field",
    "run_hook",
    "with_version",
]
