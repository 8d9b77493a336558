"""The fields of a record, by whichever names, become a validated message. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from celery_segment import messages
from celery_segment.errors import ValidationError

__all__ = ["STAMPED", "WIRE_NAMES", "message_of"]

#: The name on the wire of each field, by that name and by the argument's.
WIRE_NAMES = {
    "type": "type",
    **{name: name for name in messages.ARGUMENTS},
    **{argument: name for name, argument in messages.ARGUMENTS.items()},
}
#: What Segment itself adds to a message on its way: archives hold these.
STAMPED = frozenset(
    (
        *("_metadata", "channel", "originalTimestamp", "projectId", "receivedAt"),
        *("sentAt", "version", "writeKey"),
    )
)


def message_of(
    fields: Mapping[str, Any], default_type: str | None, make_id: Callable[[], str]
) -> messages.Message:
    """Return the message of these fields, validated as a call's arguments are.

    Args:
        fields: By their names on the wire (``userId``), or by the arguments' (``user_id``).
            Null is as good as absent, and what Segment adds is left out.
        default_type: The type where ``fields`` have none.
        make_id: Makes the id where ``fields`` have none.

    Raises:
        ValidationError: Names the field, what was given and the mend.
    """
    content: dict[str, Any] = {}
    for field, value in fields.items():
        if value is None or field in STAMPED:
            continue
        name = WIRE_NAMES.get(field, field)
        if name in content:
            raise ValidationError(field, f"is given twice, for {name} is the same")
        content[name] = value
    if "timestamp" not in content:
        raise ValidationError("timestamp", "is required by an import: when it happened")
    content.setdefault("type", default_type)
    if "messageId" not in content:
        content["messageId"] = make_id()
    return messages.from_wire(content)
