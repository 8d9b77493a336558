"""For Flower: its page of tasks tells what became of each batch.

In the ``flowerconfig.py`` that Flower finds where it is started::

    from celery_segment.contrib.flower import format_task, tasks_columns
"""

from __future__ import annotations

import re
from typing import Any

__all__ = ["format_task", "tasks_columns"]

#: Flower sorts by "received", and opens a task by its "uuid".
tasks_columns = "name,state,kwargs,result,worker,received,uuid"

#: What Celery's events carry: 'a result', AnError('its text').
_REPR = re.compile(r"(?:\w+\()?(['\"])(?P<text>.*)\1\)?", re.DOTALL)


def format_task(task: Any) -> Any:
    """Show in the column of results the cause of a retry or failure, too; and no quotes.

    Tasks of others are left as they are.

    Args:
        task: A copy of a ``celery.events.state.Task``.
    """
    if (task.name or "").startswith("segment."):
        shown = task.result if task.state == "SUCCESS" else task.exception
        told = _REPR.fullmatch(shown or "")
        task.result = told["text"] if told else shown
    return task
