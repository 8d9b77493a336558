"""What a fault is: done to the stage at once, it says how it is undone, and when."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from chaos.settings import LEASE, TICK, WORKERS
from chaos.stage import Stage

#: Seconds within which a volley must be recovered from, once its faults have ended: until a
#: lost batch is found, and for the work that there is then.
FOUND, WORK = LEASE + TICK, 5.0


class Course(Protocol):
    """What a fault does step by step."""

    def over(self) -> bool:
        """Do what is to be done next; return whether the fault is to be undone."""

    def end(self) -> None:
        """Undo it."""


@dataclass
class Effect:
    """What there is to undo, and what it excuses.

    Attributes:
        seconds: Until it is to be undone.
        undo: Undoes it. What fails because of another fault is tried again.
        doubtful: How many messages it may have had posted again, at the most: a batch for
            each delivery that it cut off. Those which the endpoint accepted without an
            answer are counted there, not here.
        tasks: How many of the application's tasks may have been lost, at the most: Celery's
            Redis transport loses what Redis was sending, and gives back what a worker held
            only after an hour.
        cuts_broker: Whether workers have to connect to the broker again, though no task
            may be lost.
        spilled: How many messages that had been spilled it may have had stored again, at the
            most: a part for each process that it ended, or cut off from Redis.
        work: Seconds that the work may take by which it is recovered from.
        calls_from: From when on, until the recovery, no call may fail, and at most one of
            each process be slow; None where calls may fail.
        course: What it does step by step, until it is to be undone.
    """

    seconds: float = 0.0
    undo: Callable[[], None] = lambda: None
    doubtful: int = 0
    tasks: int = 0
    cuts_broker: bool = False
    spilled: int = 0
    work: float = WORK
    calls_from: float | None = None
    course: Any = None

    @classmethod
    def of(cls, course: Course, **excuses: Any) -> Effect:
        return cls(undo=course.end, course=course, **excuses)

    def over(self, since: float) -> bool:
        """Return whether it is to be undone, when it began at a time."""
        if self.course is not None:
            return self.course.over()
        return since + self.seconds <= time.monotonic()


@dataclass(frozen=True)
class Fault:
    """A kind of fault.

    Attributes:
        name: Its name in the report.
        inject: Does it; returns None where it finds nobody to be done to.
    """

    name: str
    inject: Callable[[Stage, Random], Effect | None]

    @property
    def spares_the_application(self) -> bool:
        """Whether it is one of the endpoint's, which the application must not feel."""
        return self.name.startswith("endpoint")


def fault(function) -> Fault:
    """Make the fault of a function's name."""
    return Fault(function.__name__.replace("_", " "), function)


def on_redis(function):
    """Leave a fault out while Redis is away."""

    def inject(stage, chance):
        return None if stage.redis_is_away else function(stage, chance)

    inject.__name__ = function.__name__
    return inject


def held(stage) -> int:
    """Return how many tasks a worker that is killed may take with it."""
    return stage.broker.held


def held_by_redis(stage) -> int:
    """Return how many tasks may be lost with the connections to the buffer's Redis."""
    return WORKERS * stage.broker.held if stage.broker is stage.store else 0


def givers(stage) -> int:
    """Return how many spilled messages those who give them back may be storing at present."""
    return stage.load.batch * (stage.crew.present + len(stage.clients.present))
