"""What surrounds a call: the person who acts, and the Celery task that runs."""

from __future__ import annotations

from collections.abc import Callable

from celery_segment.calls.identity import STACKS, current_attempt
from celery_segment.messages import Message
from celery_segment.visitor import Visitor, current_visitor

__all__ = ["current_person", "surroundings"]

Identify = Callable[[Message], str | None]


def surroundings() -> tuple[Visitor | None, Identify | None]:
    """Return the visitor of a call, and what gives its message an id; None for none of them."""
    if not STACKS:
        return current_visitor(), None
    attempt = current_attempt()
    if attempt is None:
        return current_visitor(), None
    return current_visitor() or attempt.visitor, attempt.identify


def current_person() -> Visitor | None:
    """Return the visitor of the block, the request or the task in which a call is made."""
    return surroundings()[0]
