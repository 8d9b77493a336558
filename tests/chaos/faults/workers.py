"""Faults of workers and producers: killed, stopped, deployed again, or wrongly configured."""

from __future__ import annotations

import os
import signal
import time

from chaos.crew import Hand
from chaos.faults.base import Effect, fault, held
from chaos.settings import CHANGES, LEASE, PROCESSES, STARTING, TICK

#: Seconds for which a guest works once it is ready.
VISIT = (2.0, 4.0)
#: Seconds after which a guest that leaves has ended its last delivery, if not its processes.
LAST = 5.0


def any_ready(stage, chance) -> Hand | None:
    ready = stage.crew.ready()
    return chance.choice(ready) if ready else None


@fault
def kill_worker(stage, chance):
    hand = any_ready(stage, chance)
    if hand is None:
        return None
    hand.kill()
    stage.crew.add()
    batch = stage.load.batch
    return Effect(doubtful=PROCESSES * batch, tasks=held(stage), spilled=batch)


@fault
def kill_child(stage, chance):
    hand = any_ready(stage, chance)
    children = hand.children() if hand else []
    if not children:
        return None
    os.kill(chance.choice(children), signal.SIGKILL)
    return Effect(doubtful=stage.load.batch)


@fault
def stop_worker_beyond_its_lease(stage, chance):
    hand = any_ready(stage, chance)
    if hand is None:
        return None
    hand.stop()
    seconds = LEASE + TICK + chance.uniform(0.5, 2)
    batch = stage.load.batch
    return Effect(seconds, hand.resume, doubtful=PROCESSES * batch, spilled=batch)


@fault
def roll_worker(stage, chance):
    hand = any_ready(stage, chance)
    if hand is None:
        return None
    hand.leave()
    stage.crew.add()
    return Effect()


# ---------------------------------------------------------------- deploys


def _changes(chance):
    """Return another configuration: settings that are None are left out."""
    found = {name: chance.choice(values) for name, values in CHANGES.items()}
    return {name: value for name, value in found.items() if value is not None}


class _WorkersDeploy:
    """Replaces the workers one after the other, as a rolling deploy does."""

    def __init__(self, stage, changes) -> None:
        self._stage = stage
        self._old = stage.crew.ready()
        self._new: Hand | None = None
        stage.crew.changes = changes

    def over(self) -> bool:
        if self._new is not None and self._new.state == "starting":
            return False
        while self._old:
            hand = self._old.pop()
            if hand.state == "ready":  # another fault may have ended it
                hand.leave()
                self._new = self._stage.crew.add()
                return False
        return True

    def end(self) -> None:
        """Do nothing: the new configuration stays."""


@fault
def deploy_workers_with_other_settings(stage, chance):
    return Effect.of(_WorkersDeploy(stage, _changes(chance)))


class _ProducersDeploy:
    """Replaces the producers one after the other: each once its last call is accepted."""

    def __init__(self, stage, changes) -> None:
        self._clients = stage.clients
        self._old = stage.clients.present
        self._leaving = self._new = None
        stage.clients.changes = changes

    def over(self) -> bool:
        if self._new is not None and not self._new.publishes and self._new.runs:
            return False
        if self._leaving is not None:
            if self._leaving.runs:
                return False
            self._new, self._leaving = self._clients.replace(self._leaving), None
            return False
        if self._old:
            self._leaving = self._old.pop()
            self._leaving.process.terminate()
            return False
        return True

    def end(self) -> None:
        """Do nothing: the new configuration stays."""


@fault
def deploy_producers_with_other_settings(stage, chance):
    if not all(client.publishes for client in stage.clients.present):
        return None
    return Effect.of(_ProducersDeploy(stage, _changes(chance)))


# ---------------------------------------------------------------- wrong configurations


class _Visit:
    """A worker with a wrong configuration beside the others, until it has ended warmly."""

    def __init__(self, stage, chance, changes) -> None:
        self._hand = stage.crew.invite(changes)
        self._stay = chance.uniform(*VISIT)
        self._until = time.monotonic() + STARTING
        self._is_ready = False

    def over(self) -> bool:
        hand, now = self._hand, time.monotonic()
        if hand.state == "ready" and not self._is_ready:
            self._is_ready, self._until = True, now + self._stay
        if hand.state in ("starting", "ready") and now >= self._until:
            hand.leave()
            self._until = now + LAST
        return hand.state == "gone" or (hand.state == "leaving" and now >= self._until)

    def end(self) -> None:
        """Do nothing: it has left."""


@fault
def worker_without_its_key(stage, chance):
    return Effect.of(_Visit(stage, chance, {"segment_write_key": None}))


@fault
def worker_with_an_old_key(stage, chance):
    return Effect.of(_Visit(stage, chance, {"segment_write_key": "anoldwritekey"}))


FAULTS = (
    kill_worker,
    kill_child,
    stop_worker_beyond_its_lease,
    roll_worker,
    deploy_workers_with_other_settings,
    deploy_producers_with_other_settings,
    worker_without_its_key,
    worker_with_an_old_key,
)
