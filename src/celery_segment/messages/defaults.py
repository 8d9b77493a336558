"""Apply a source's defaults and its ``segment_before_send`` hook to a message. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from celery_segment.errors import ValidationError
from celery_segment.messages.build import RAW_LIBRARY, from_wire
from celery_segment.messages.encoding import decode, encode
from celery_segment.messages.fields import type_name
from celery_segment.messages.types import Message

__all__ = ["add_defaults", "run_hook"]


def run_hook(message: Message, hook: Callable[[dict[str, Any]], Any]) -> Message | None:
    """Return the message that a hook returns, or None if the hook drops it.

    The hook receives the message in its wire form and returns one in the same form, which
    is validated.

    Raises:
        ValidationError: The hook returned something other than a valid message, or changed
            the messageId.
    """
    content = hook(decode(encode(message)))
    if content is None:
        return None
    if not isinstance(content, Mapping):
        raise ValidationError(
            "segment_before_send", f"must return the message or None, {type_name(content)}"
        )
    if content.get("messageId") != message.message_id:
        raise ValidationError("segment_before_send", "must not change the messageId")
    return from_wire(content)


def add_defaults(
    message: Message, context: dict[str, Any] | None, integrations: dict[str, Any] | None
) -> None:
    """Merge a source's default context and destinations into a message, in place.

    The message's own values win.
    """
    if context:
        given = message.context if isinstance(message.context, dict) else {"library": RAW_LIBRARY}
        message.context = {**context, **given}
    if integrations:
        message.integrations = {**integrations, **(message.integrations or {})}
