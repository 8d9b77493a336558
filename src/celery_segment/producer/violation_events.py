"""Tell Segment of violations of the tracking plan as Protocols does: by events of their own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from celery_segment.messages import Message, Track, build_message, encode
from celery_segment.producer.plans import PlanDecision, PlanViolation

__all__ = ["ViolationEvents"]

#: The event and the user that Segment has in "Forward Violations".
EVENT, USER = "Violation Generated", "schema-violations"
#: Events within a second: a plan that every call violates must not fill the source.
MOST, PERIOD = 20, 1.0
#: Characters of a text.
_LONGEST = 300


class ViolationEvents:
    """Makes the events of a source's violations: some in each second, the others are counted alone.

    Args:
        source: The name of the source.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._left, self._until = MOST, 0.0

    def of(self, message: Message, decision: PlanDecision) -> Iterator[bytes]:
        """Return an event for each violation of a message. It has no value of the message."""
        for each in decision.violations:
            if self._may_send():
                properties = self._properties(message, each)
                yield encode(build_message(Track, event=EVENT, user_id=USER, properties=properties))

    def _may_send(self) -> bool:
        now = time.monotonic()
        if now >= self._until:
            self._left, self._until = MOST, now + PERIOD
        self._left -= 1
        return self._left >= 0

    def _properties(self, message: Message, violation: PlanViolation) -> dict[str, str]:
        path = violation.path[:_LONGEST]
        return {
            "appVersion": _app_version(message.context),
            "eventMessageID": message.message_id,
            "eventName": _name_of(message)[:_LONGEST],
            "eventTimestamp": message.timestamp,
            "eventType": type(message).__name__.lower(),
            "sourceName": self._source,
            "violationDescription": f"{path} {violation.problem[:_LONGEST]}",
            "violationField": path,
            "violationType": violation.rule.capitalize(),
        }


def _name_of(message: Message) -> str:
    return getattr(message, "event", None) or getattr(message, "name", None) or ""


def _app_version(context: Any) -> str:
    app = context.get("app") if isinstance(context, dict) else None
    version = app.get("version") if isinstance(app, dict) else None
    return version[:_LONGEST] if isinstance(version, str) else ""
