"""Faults of the connections to Redis: killed, replies lost, idle ones forgotten."""

from __future__ import annotations

import time

from chaos.faults.base import Effect, fault, givers, on_redis
from chaos.settings import HELD, WORKERS

#: How many replies a proxy loses at the most.
REPLIES = 5
#: Seconds after which a connection is forgotten, and those for which the producers are quiet.
LONGEST_IDLE, QUIET = 1.2, 2.5
#: Seconds for which calls go on then, before the proxies forget nothing any more.
AFTER = 1.5


@fault
@on_redis
def kill_connections(stage, _):
    for kind in ("normal", "pubsub"):
        stage.client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
    doubtful = stage.crew.deliveries * stage.load.batch
    return Effect(doubtful=doubtful, tasks=WORKERS * HELD, spilled=givers(stage))


@fault
def cut_producers_replies(stage, chance):
    return _lose(stage, chance, "cut", stage.servers.producers, stage.servers.publishers)


@fault
def mute_producers_replies(stage, chance):
    return _lose(stage, chance, "mute", stage.servers.producers, stage.servers.publishers)


@fault
def cut_workers_replies(stage, chance):
    return _lose(stage, chance, "cut", stage.servers.workers)


@fault
def mute_workers_replies(stage, chance):
    return _lose(stage, chance, "mute", stage.servers.workers)


def _lose(stage, chance, manner, *links):
    replies = chance.randint(1, REPLIES)
    for link in links:
        getattr(link, manner)(replies)
    messages = replies * stage.load.batch
    doubtful = messages if stage.servers.workers in links else 0
    return Effect(doubtful=doubtful, spilled=messages)


@fault
def cut_broker_replies(stage, chance):
    stage.servers.broker.cut(chance.randint(1, REPLIES))
    return Effect(tasks=WORKERS * HELD)


class _IdleFlows:
    """Has proxies forget idle connections to the buffer, while the producers are quiet.

    Not those to the broker: by default, kombu waits on a connection without a bound.
    """

    def __init__(self, stage) -> None:
        self._stage = stage
        self._links = (stage.servers.producers, stage.servers.workers)
        self._quiet_until = time.monotonic() + QUIET
        self._until = self._quiet_until + AFTER
        self._is_quiet = True
        for link in self._links:
            link.forget_idle(LONGEST_IDLE)
        stage.clients.be_quiet()

    def over(self) -> bool:
        now = time.monotonic()
        if self._is_quiet and now >= self._quiet_until:
            self._is_quiet = False
            self._stage.clients.go_on()
        return now >= self._until

    def end(self) -> None:
        for link in self._links:
            link.heal()


@fault
def forget_idle_connections(stage, _):
    return Effect.of(_IdleFlows(stage), spilled=givers(stage), calls_from=time.monotonic())
