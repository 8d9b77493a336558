"""Ask the workers of an application, through Celery's remote control, how they are configured."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any

import msgspec
from celery.app.control import flatten_reply

from celery_segment.producer import DELIVER, impatient_connection
from celery_segment.worker.interview import COMMAND, Facts, facts_of

__all__ = ["Answers", "Unaskable", "ask_workers"]

#: Seconds to wait for the workers' answers; and for the answer of a single worker, which
#: ends the wait.
WORKERS, WORKER = 1.0, 4.0


class Unaskable(Exception):  # noqa: N818 - a finding, not an error
    """Why no worker can be asked, whether any runs or not."""


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of the workers.

    Attributes:
        tasks: The names of their tasks, by the worker's name; anything but a list is an error.
        facts: How those that were interviewed are configured, by the worker's name.
        own: The same of this process; None where no worker was interviewed.
        broker: The broker's URL, without its user and password.
    """

    tasks: Mapping[str, object] = field(default_factory=dict)
    facts: Mapping[str, Facts] = field(default_factory=dict)
    own: Facts | None = None
    broker: str = ""

    @property
    def able(self) -> list[str]:
        """The names of the workers that have the library's tasks."""
        return [
            w for w, tasks in self.tasks.items() if isinstance(tasks, list) and DELIVER in tasks
        ]


def ask_workers(app: Any, name: str | None = None, *, interview: bool = True) -> Answers:
    """Ask all workers for their tasks, and those that have the library's tasks for their facts.

    Args:
        app: The Celery application.
        name: The name of the only worker to ask; it is not interviewed.
        interview: Whether to ask for their facts.

    Raises:
        Unaskable: The workers have no remote control.
    """
    if not app.conf.worker_enable_remote_control:
        raise Unaskable("worker_enable_remote_control is off")
    asked, seconds = ([name], WORKER) if name else (None, WORKERS)
    with impatient_connection(app) as broker:
        if not broker.supports_exchange_type("fanout"):  # as Celery's workers decide it
            raise Unaskable(f"the broker ({broker.transport.driver_type}) has no remote control")
        inspect = app.control.inspect(asked, seconds, connection=broker)
        answers = inspect.registered() or {}
        found = Answers(
            # A task with a rate limit of its own is answered as "name [rate_limit=0]".
            tasks={
                worker: [task.partition(" ")[0] for task in tasks]
                if isinstance(tasks, list)
                else tasks
                for worker, tasks in answers.items()
            },
            broker=re.sub("//[^@/]*@", "//", broker.as_uri()),
        )
        wanted = interview and not name and found.able
        return _interview(app, found, broker) if wanted else found


def _interview(app: Any, found: Answers, broker: Any) -> Answers:
    salt = token_hex(16)
    replies = app.control.broadcast(
        COMMAND,
        arguments={"salt": salt},
        destination=found.able,  # the wait ends with the last of their answers
        reply=True,
        timeout=WORKERS,
        connection=broker,
    )
    read = {worker: _read(reply) for worker, reply in flatten_reply(replies or []).items()}
    facts = {worker: each for worker, each in read.items() if each is not None}
    return Answers(found.tasks, facts, facts_of(app, salt) if facts else None, found.broker)


def _read(reply: object) -> Facts | None:
    """Read an answer; return None for that of a version whose answers differ."""
    try:
        return msgspec.convert(reply, Facts)
    except msgspec.ValidationError:
        return None
