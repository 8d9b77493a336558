"""What a source did of late, by its figures at several moments; and which workers are there."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, NamedTuple

from celery_segment.buffer import Latency, Snapshot
from celery_segment.operations.admin import SourceAdmin
from celery_segment.operations.interviews import Unaskable, ask_workers

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Present", "Rates", "Recent", "Window", "Workers", "of_the_last_hour"]

#: Seconds of latencies that are shown, and over which rates are taken: usually, and at least.
LATENCIES, RATES, SHORTEST = 60.0, 10.0, 0.5
#: Seconds between two questions to the workers.
PERIOD = 3.0


class Rates(NamedTuple):
    """How many messages a source accepted and delivered per second; None where not known yet."""

    accepted: float | None = None
    delivered: float | None = None


@dataclass(frozen=True, slots=True)
class Recent:
    """What a source did of late.

    Attributes:
        latency: How long the messages that were delivered took from the call.
        rates: What it did per second; None where it is not watched.
    """

    latency: Latency = Latency()  # noqa: RUF009 - which is frozen
    rates: Rates | None = None


def of_the_last_hour(admin: SourceAdmin) -> Recent:
    """Return the latencies of the last hour."""
    return Recent(Latency.sum_of(period.latency for period in admin.history(1)))


class Window:
    """The figures of a source at the moments of the last minute at which they were looked at.

    What they are compared with is the youngest look that is old enough; else the first.
    """

    def __init__(self) -> None:
        self._looks: deque[tuple[float, Snapshot]] = deque()

    def add(self, figures: Snapshot, at: float | None = None) -> Recent:
        """Add the figures at a moment, and return what the source did since the first ones.

        Args:
            figures: The figures.
            at: The moment in seconds, by ``time.monotonic()``; now by default.
        """
        now = time.monotonic() if at is None else at
        self._looks.append((now, figures))
        while len(self._looks) > 1 and self._looks[1][0] <= now - LATENCIES:
            self._looks.popleft()
        first = self._looks[0]
        older = (look for look in reversed(self._looks) if look[0] <= now - RATES)
        latency, (since, before) = figures.latency - first[1].latency, next(older, first)
        seconds = now - since
        if seconds < SHORTEST:
            return Recent(latency, Rates())
        accepted = figures.accepted - before.accepted
        delivered = figures.delivered.messages - before.delivered.messages
        return Recent(latency, Rates(max(accepted, 0) / seconds, max(delivered, 0) / seconds))


@dataclass(frozen=True, slots=True)
class Present:
    """The workers that are there.

    Attributes:
        names: The names of those that have the library's tasks.
        problem: Why they cannot be asked; "" if they can.
    """

    names: tuple[str, ...] = ()
    problem: str = ""


class Workers:
    """Asks in a thread which workers are there, again and again, during a ``with`` block.

    A broker that does not answer delays nobody else.

    Attributes:
        found: What they last answered; None before their first answer.
    """

    def __init__(self, app: Any) -> None:
        self.found: Present | None = None
        self._app = app
        self._ended = Event()

    def __enter__(self) -> Self:
        Thread(target=self._ask, name="segment-workers", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def _ask(self) -> None:
        while not self._ended.is_set():
            self.found = present_workers(self._app)
            self._ended.wait(PERIOD)


def present_workers(app: Any) -> Present:
    """Ask which workers are there; wait a second for their answers."""
    try:
        return Present(tuple(sorted(ask_workers(app, interview=False).able)))
    except Unaskable as error:
        return Present(problem=str(error))
    except Exception as error:  # noqa: BLE001 - the brokers' clients share no base class
        return Present(problem=f"the broker is unreachable ({type(error).__name__})")
