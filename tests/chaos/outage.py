"""An outage of the endpoint that lasts until calls are refused, because the buffer is full."""

from __future__ import annotations

import time
from random import Random

from celery_segment.testing import Reply
from chaos.stage import Hand, Stage

#: Seconds within which calls must be refused; then the outage ends all the same.
FILLING = 10.0
#: Seconds within which a worker must have started while the buffer is full.
STARTING = 15.0
#: Seconds for which all goes on then, before the endpoint returns.
FULL = 1.5


class Outage:
    """Has the endpoint answer 503 while the producers call with large messages.

    Once a call is refused, a worker is killed and another one started; when that one is
    ready, the application goes on for a moment, and the endpoint returns.

    Attributes:
        full_at: When the first call was refused; None while none was.
        started: Whether the worker that was started since then became ready.
    """

    def __init__(self, stage: Stage, chance: Random) -> None:
        self.full_at: float | None = None
        self.started = False
        self._stage, self._chance = stage, chance
        self._refusals = stage.refusals()
        self._hand: Hand | None = None
        self._settled = False
        self._until = time.monotonic() + FILLING
        stage.endpoint_fails = True
        stage.server.always(Reply.status(503))
        stage.fill()

    def over(self) -> bool:
        """Do what is to be done next; return whether the endpoint may return."""
        now = time.monotonic()
        if self.full_at is None:
            if self._stage.refusals() > self._refusals:
                self.full_at, self._until = now, now + STARTING
        elif self._hand is None:
            self._hand = self._replace_a_worker()
        elif not self._settled and self._hand.state != "starting":
            self._settled, self.started = True, self._hand.state == "ready"
            self._until = now + FULL
        return now >= self._until

    def end(self) -> None:
        """Have the endpoint return."""
        self._stage.stop_filling()
        self._stage.server.restore()
        self._stage.endpoint_fails = False

    def _replace_a_worker(self) -> Hand | None:
        """Kill a worker and start one; return the new one, or None while none is ready."""
        ready = self._stage.ready()
        if not ready:
            return None
        self._chance.choice(ready).kill()
        return self._stage.add_worker()
