"""Faults on the way to Redis: replies lost, idle connections forgotten."""

from __future__ import annotations

import time

from chaos.faults.base import Effect, fault, givers

#: How many replies a proxy loses at the most.
REPLIES = 5
#: Seconds after which a connection is forgotten, and those for which the producers are quiet.
LONGEST_IDLE, QUIET = 1.2, 2.5
#: Seconds for which calls go on then, before the proxies forget nothing any more.
AFTER = 1.5


@fault
def cut_producers_replies(stage, chance):
    return _lose_producers(stage, chance, "cut")


@fault
def mute_producers_replies(stage, chance):
    return _lose_producers(stage, chance, "mute")


@fault
def cut_workers_replies(stage, chance):
    return _lose_workers(stage, chance, "cut")


@fault
def mute_workers_replies(stage, chance):
    return _lose_workers(stage, chance, "mute")


def _lose_producers(stage, chance, manner):
    messages = _lose(
        stage, chance, manner, [*stage.store.producers_links, *stage.broker.publishers_links]
    )
    return Effect(spilled=messages)


def _lose_workers(stage, chance, manner):
    messages = _lose(stage, chance, manner, stage.store.workers_links)
    return Effect(doubtful=messages, spilled=messages)


def _lose(stage, chance, manner, links):
    """Have replies lost; return how many messages they are about, at the most."""
    replies = chance.randint(1, REPLIES)
    for link in links:
        getattr(link, manner)(replies)
    return replies * stage.load.batch


class _IdleFlows:
    """Has proxies forget idle connections to the buffer, while the producers are quiet.

    Not those to the broker: by default, kombu waits on a connection without a bound.
    """

    def __init__(self, stage) -> None:
        self._stage = stage
        self._links = [*stage.store.producers_links, *stage.store.workers_links]
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


FAULTS = (
    cut_producers_replies,
    mute_producers_replies,
    cut_workers_replies,
    mute_workers_replies,
    forget_idle_connections,
)
