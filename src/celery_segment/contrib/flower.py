"""Show the outcome of each batch on Flower's page of tasks.

Import both names in ``flowerconfig.py``, in the directory where Flower is started::

    from celery_segment.contrib.flower import format_task, tasks_columns
"""

from __future__ import annotations

import re
from typing import Any

__all__ = ["format_task", "tasks_columns"]

#: Columns of the page. Flower sorts by "received", and links to a task from its "uuid".
tasks_columns = "name,state,kwargs,result,worker,received,uuid"

#: The reprs in Celery's events: 'a result', AnError('its text').
_REPR = re.compile(r"(?:\w+\()?(['\"])(?P<text>.*)\1\)?", re.DOTALL)


def format_task(task: Any) -> Any:
    """Make a task's result the cause of its retry or failure, if any, without quotes.

    Tasks of other libraries are not changed.

    Args:
        task: A copy of a ``celery.events.state.Task``, which is modified.

    Returns:
        The task.
    """
    if (task.name or "").startswith("segment."):
        shown = task.result if task.state == "SUCCESS" else task.exception
        match = _REPR.fullmatch(shown or "")
        task.result = match["text"] if match else shown
    return task
