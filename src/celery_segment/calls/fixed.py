"""Options of this library's tasks that no setting and no base class of an application changes.

What a task does not name itself, Celery takes from the base class ``app.Task`` and from
settings; and ``task_annotations`` for ``"*"`` replace even what it names. A time limit, a
rate limit, or retries of Celery's own would hold up deliveries, or lose a message.
"""

from __future__ import annotations

from typing import Any, ClassVar

from celery import Task

__all__ = ["FIXED", "FixedTask"]

#: Seconds after which a task that hangs is ended. A request to Segment takes five minutes at
#: most, and every other step less: no limit comes in the middle of an attempt. It is not
#: None, for which Celery uses the limit of the application or of the worker.
LIMIT = 3600


class FixedTask(Task):
    """A task whose options are those that its class names."""

    abstract = True

    Request = "celery_segment.calls.requests:KeptRequest"
    acks_late = False
    acks_on_failure = True
    acks_on_failure_or_timeout = True
    acks_on_timeout = True
    autoretry_for: ClassVar[tuple[type[BaseException], ...]] = ()
    expires = None
    ignore_result = True
    max_retries = None
    # Not None, for which Celery uses task_default_rate_limit.
    rate_limit = 0
    reject_on_worker_lost = False
    retry_on_worker_lost = False
    serializer = "json"
    soft_time_limit = LIMIT
    store_eager_result = False
    store_errors_even_if_ignored = False
    throws: ClassVar[tuple[type[BaseException], ...]] = ()
    time_limit = LIMIT
    track_started = False
    typing = False

    @classmethod
    def annotate(cls) -> None:
        """Apply the application's ``task_annotations``, but for the options above."""
        _annotate(cls)


def _annotate(task: Any) -> None:
    own = {name: getattr(task, name) for name in _NAMES}
    Task.annotate.__func__(task)
    for name, value in own.items():
        setattr(task, name, value)


_NAMES = [
    name
    for name in vars(FixedTask)
    if name not in ("abstract", "annotate", "run") and not name.startswith("_")
]

#: The same as options of a task that has the application's own base class: it may be one
#: that gives each task what it needs to run, such as a Flask application's context.
FIXED: dict[str, Any] = {
    **{name: getattr(FixedTask, name) for name in _NAMES},
    "annotate": classmethod(_annotate),
}
