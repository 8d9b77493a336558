"""Show the outcome of each batch on Flower's page of tasks.

Import both names in ``flowerconfig.py``, in the directory where Flower is started::

    from celery_segment.contrib.flower import format_task, tasks_columns
"""

from __future__ import annotations

import re
from typing import Any

__all__ = ["format_task", "tasks_columns"]

#: Columns of the page. Flower sorts by "received", and links to a task from its "uuid".
#: What matters fits into 1,280 pixels: of a UUID its beginning, which is enough for the link.
tasks_columns = "name,state,kwargs,result,received,uuid,worker"

#: The reprs in Celery's events: 'a result', AnError('its text').
_REPR = re.compile(r"(?:\w+\()?(['\"])(?P<text>.*)\1\)?", re.DOTALL)
#: What is on a task's own page: of a dead letter, as its exception, Segment's code and the next
#: commands; the size of a batch; the id of a message, which is that of its task.
_DETAILS = re.compile(r"; (?:Segment answers|next:) .*", re.DOTALL)
_SIZE = re.compile(r", [\d,]+ bytes?$")


def format_task(task: Any) -> Any:
    """Make a task's result the cause of its retry or failure, if any, and shorten what is shown.

    Tasks of other libraries are not changed.

    Args:
        task: A copy of a ``celery.events.state.Task``, which is modified.

    Returns:
        The task.
    """
    if (task.name or "").startswith("segment."):
        shown = task.result if task.state == "SUCCESS" else task.exception
        match = _REPR.fullmatch(shown or "")
        task.result = _DETAILS.sub("", match["text"]) if match else shown
        task.kwargs = _SIZE.sub("", task.kwargs or "").removesuffix(f", message {task.uuid}")
    return task
