"""What a source adds to its messages: default context and destinations, and its hook. No I/O."""

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
    """Return what a hook makes of a message; None when it returns None.

    The hook gets the message as it is sent, and returns the like, which is validated.

    Raises:
        ValidationError: The hook returned what is no message, or another messageId.
    """
    content = hook(decode(encode(message)))
    if content is None:
        return None
    if not isinstance(content, Mapping):
        raise ValidationError(
            "segment_before_send", f"must return the message or None, {type_name(content)}"
        )
    if content.get("messageId") != message.message_id:
        raise ValidationError("segment_before_send", "must leave the messageId as it is")
    return from_wire(content)


def add_defaults(
    message: Message, context: dict[str, Any] | None, integrations: dict[str, Any] | None
) -> None:
    """Give a message what it does not say itself of its source's context and destinations."""
    if context:
        given = message.context if isinstance(message.context, dict) else {"library": RAW_LIBRARY}
        message.context = {**context, **given}
    if integrations:
        message.integrations = {**integrations, **(message.integrations or {})}
