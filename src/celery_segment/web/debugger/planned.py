"""Compare what arrives with the tracking plan of its source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery_segment.testing.violations import Violation
from celery_segment.web.debugger.records import Check

__all__ = ["plan_check"]


def plan_check(path: str, *, unplanned: bool = True) -> Check:
    """Return what finds how a message violates a tracking plan.

    Args:
        path: The path of the plan's file.
        unplanned: Whether an event that the plan does not have is a violation.

    Raises:
        ConfigurationError: The plan cannot be read, or is not valid.
    """
    # Only who has a plan loads what judges by it.
    from celery_segment.events.plan.judging import Judge
    from celery_segment.events.plan.reading import read_plan

    judge = Judge(read_plan(path))

    def check(message: Mapping[str, Any], _size: int) -> list[Violation]:
        if not _can_be_judged(message):
            return []
        try:
            found = judge.violations(message)
        except (TypeError, ValueError):  # such as one that is nested more deeply than plans are
            return [Violation("", "cannot be compared with the tracking plan")]
        return [
            Violation(each.path, f"{each.problem} (tracking plan)")
            for each in found
            if unplanned or not each.is_unplanned
        ]

    return check


def _can_be_judged(message: Mapping[str, Any]) -> bool:
    """Return whether a message has the form of one; if not, Segment's own rules say so."""
    kind = message.get("type")
    name = message.get("event" if kind == "track" else "name", "")
    texts = isinstance(kind, str) and isinstance(name, str)
    return texts and isinstance(message.get("context", {}), dict)
