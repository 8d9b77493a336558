"""Build a validated message from the fields of a record, by either of their names. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from celery_segment import messages
from celery_segment.errors import ValidationError

__all__ = ["ADDED_BY_SEGMENT", "WIRE_NAMES", "message_of"]

#: The name on the wire of each field, by that name and by the name of the argument.
WIRE_NAMES = {
    "type": "type",
    **{name: name for name in messages.ARGUMENTS},
    **{argument: name for name, argument in messages.ARGUMENTS.items()},
}
#: Fields that Segment adds to a message, found in its archives. An import ignores them.
ADDED_BY_SEGMENT = frozenset(
    (
        *("_metadata", "channel", "originalTimestamp", "projectId", "receivedAt"),
        *("sentAt", "version", "writeKey"),
    )
)


def message_of(
    fields: Mapping[str, Any], default_type: str | None, make_id: Callable[[], str]
) -> messages.Message:
    """Return the message with these fields, validated like the arguments of a call.

    Args:
        fields: The values by names on the wire (``userId``) or of arguments (``user_id``).
            Null is the same as a missing field, and fields that Segment adds are ignored.
        default_type: The type if ``fields`` has none.
        make_id: Function that returns the id if ``fields`` has none.

    Raises:
        ValidationError: A field is invalid; the error names it and how to fix it.
    """
    content: dict[str, Any] = {}
    for field, value in fields.items():
        if value is None or field in ADDED_BY_SEGMENT:
            continue
        name = WIRE_NAMES.get(field, field)
        if name in content:
            raise ValidationError(field, f"is given twice: {name} is the same field")
        content[name] = value
    if "timestamp" not in content:
        raise ValidationError("timestamp", "is required by an import: give the time of the event")
    content.setdefault("type", default_type)
    if "messageId" not in content:
        content["messageId"] = make_id()
    return messages.from_wire(content)
