"""Tasks that a request, or one of its tasks, publishes carry its visitor."""

from __future__ import annotations

import logging
from typing import Any

from celery._state import get_current_app

from celery_segment.calls.carried import VISITOR, encoded
from celery_segment.calls.identity import STACKS, current_attempt, current_person
from celery_segment.calls.prepared import HEADER
from celery_segment.producer import DELIVER, DRAIN
from celery_segment.runtime import runtime_of
from celery_segment.visitor import current_visitor

__all__ = ["carry_visitor"]

logger = logging.getLogger("celery_segment")


def carry_visitor(sender: Any = None, headers: Any = None, **_: Any) -> None:
    """Add the present visitor to a task's message, where the settings say so.

    This receives Celery's ``before_task_publish``. No task fails to be published for it.
    """
    if not isinstance(headers, dict) or not (STACKS or current_visitor() or VISITOR in headers):
        return
    try:
        _carry(sender, headers)
    except Exception as error:  # noqa: BLE001 - the request's own code, such as a lazy user's
        headers.pop(VISITOR, None)
        logger.warning(
            "%s is published without the visitor, who could not be read: %s",
            sender,
            type(error).__name__,
        )


def _carry(sender: Any, headers: dict[str, Any]) -> None:
    headers.pop(VISITOR, None)  # copied from another task, it counts for nothing
    task_id = headers.get("id")
    if sender in (DRAIN, DELIVER) or HEADER in headers or not isinstance(task_id, str):
        return
    attempt, person = current_attempt(), current_person()
    if person is None:
        return
    runtime = runtime_of(get_current_app())
    if not runtime.settings.propagate_visitor:
        return
    # A retry, and a task that takes another's place, have what the task itself has.
    header = (
        attempt.header
        if attempt is not None and attempt.task_id == task_id
        else encoded(person, task_id, runtime.trust)
    )
    if header is not None:
        headers[VISITOR] = header
