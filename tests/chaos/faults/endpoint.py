"""Faults of the endpoint, which the application must not feel."""

from __future__ import annotations

import socket
import time
from dataclasses import replace
from random import Random

from celery_segment.errors import BufferFull, BufferUnavailable
from celery_segment.testing import Reply
from chaos.crew import Hand
from chaos.faults.base import FOUND, Effect, Fault, fault, held, on_redis
from chaos.faults.workers import any_ready
from chaos.settings import LEASE, PROCESSES, STARTING, TIMEOUT
from chaos.stage import Stage

#: Seconds within which calls must be refused; then an outage ends all the same.
FILLING = 10.0
#: Seconds for which all goes on once the buffer is full, before the endpoint returns.
FULL = 1.5
#: What a proxy may answer to requests with one message: redirects, refusals, failures.
STATUSES = (302, 400, 403, 404, 405, 451, 500)
#: Seconds within which the messages beside such a one must be delivered.
WITHIN = 30.0


def episode(name, reply, shortest, longest):
    """Make the fault in which the endpoint gives one reply to every batch for some time."""

    def inject(stage, chance):
        if stage.endpoint_fails:
            return None
        stage.reply = reply
        stage.endpoint_fails = True

        def undo():
            stage.reply = None
            stage.endpoint_fails = False

        return Effect(chance.uniform(shortest, longest), undo)

    return Fault(f"endpoint {name}", inject)


EPISODES = (
    episode("500", Reply.status(500), 0.5, 3),
    episode("503", Reply.status(503), 0.5, 3),
    episode("429, Retry-After 1", Reply.status(429, retry_after=1), 0.2, 2),
    episode("reset", Reply.reset(), 0.5, 3),
    episode("slow", Reply.slow(1), 1, 3),
    episode("hangs beyond the lease", Reply.hang(LEASE + 1), 0.5, 3),
    # These accept, and the worker cannot know: the endpoint's records count their messages.
    episode("accepts, then closes", Reply.accept_then_close(), 0.2, 1.5),
    episode("accepts, answers too late", replace(Reply.slow(LEASE + 1), name="late"), 0.2, 1.5),
    episode("401", Reply.status(401), 1, 4),
)


@fault
def endpoint_closed(stage, chance):
    if stage.endpoint_fails:
        return None
    stage.server.stop()
    stage.endpoint_fails = True

    def undo():
        stage.server.start()
        stage.endpoint_fails = False

    doubtful = stage.crew.deliveries * stage.load.batch
    return Effect(chance.uniform(0.5, 3), undo, doubtful)


@fault
def endpoint_never_answers(stage, chance):
    """In place of the endpoint, a socket to which one can connect, and that nobody reads."""
    if stage.endpoint_fails:
        return None
    stage.server.stop()
    stage.endpoint_fails = True
    silent = socket.create_server((stage.server.host, stage.server.port))

    def undo():
        silent.close()
        stage.server.start()
        stage.endpoint_fails = False

    doubtful = stage.crew.deliveries * stage.load.batch
    return Effect(TIMEOUT + chance.uniform(1, 4), undo, doubtful)


@fault
@on_redis
def endpoint_refuses_one_message(stage, chance):
    """All others are delivered in time, and the source opens again."""
    try:
        stage.poison_a_batch(chance.choice(STATUSES))
    except (BufferFull, BufferUnavailable) as error:  # by an outage; it has no replicas yet
        if error.unknown:
            raise
        return None
    return Effect(work=WITHIN - FOUND)


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
        self._clients = stage.clients.present
        self._refusals = self._count()
        self._hand: Hand | None = None
        self._settled = False
        self._until = time.monotonic() + FILLING
        stage.endpoint_fails = True
        stage.reply = Reply.status(503)
        stage.clients.fill(self._clients)

    def over(self) -> bool:
        """Do what is to be done next; return whether the endpoint may return."""
        now = time.monotonic()
        if self.full_at is None:
            if self._count() > self._refusals:
                self.full_at, self._until = now, now + STARTING
        elif self._hand is None:
            self._hand = self._replace_a_worker()
        elif not self._settled and self._hand.state != "starting":
            self._settled, self.started = True, self._hand.state == "ready"
            self._until = now + FULL
        return now >= self._until

    def end(self) -> None:
        """Have the endpoint return."""
        self._stage.clients.stop_filling(self._clients)
        self._stage.reply = None
        self._stage.endpoint_fails = False

    def _count(self) -> int:
        return sum(client.refusals() for client in self._clients)

    def _replace_a_worker(self) -> Hand | None:
        """Kill a worker and start one; return the new one, or None while none is ready."""
        hand = any_ready(self._stage, self._chance)
        if hand is None:
            return None
        hand.kill()
        return self._stage.crew.add()


@fault
@on_redis
def endpoint_outage_until_calls_are_refused(stage, chance):
    if stage.endpoint_fails:
        return None
    batch = stage.load.batch
    return Effect.of(
        Outage(stage, chance), doubtful=PROCESSES * batch, tasks=held(stage), spilled=batch
    )


FAULTS = (
    *EPISODES,
    endpoint_closed,
    endpoint_never_answers,
    endpoint_refuses_one_message,
    endpoint_outage_until_calls_are_refused,
)
