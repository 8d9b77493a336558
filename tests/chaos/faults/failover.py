"""Failovers: another server takes the primary's place."""

from __future__ import annotations

from chaos.faults.base import Effect, fault, givers, held_by_redis, on_redis
from chaos.servers.replicated import FROZEN, KILLED

#: What becomes of a primary after a failover, see ``Single.fail_over``.
MANNERS = ("demoted", "isolated", "left")
#: Seconds after which each process is well again, once the servers are.
WELL = 1.0
#: Seconds for which calls go on after a failover, before what was harmed is there again.
AFTER = (2.0, 4.0)


@fault
@on_redis
def fail_over_behind_the_same_address(stage, chance):
    """Calls and deliveries go on: nothing is lost, none fails once the address has moved."""
    store = stage.store
    if store.demoted is not None or not store.fail_over(chance.choice(MANNERS)):
        return None
    return Effect(
        chance.uniform(*AFTER),
        store.stop_demoted,
        tasks=held_by_redis(stage),
        spilled=givers(stage),
        calls_from=store.moved_at,
    )


@fault
@on_redis
def fail_over_from_a_killed_primary(stage, chance):
    return _fail_over(stage, chance, KILLED)


@fault
@on_redis
def fail_over_from_a_frozen_primary(stage, chance):
    """It goes on where it stopped, as a primary, until it learns that it is none."""
    return _fail_over(stage, chance, FROZEN)


@fault
@on_redis
def hand_over_to_a_replica(stage, chance):
    if not stage.store.is_whole:
        return None
    stage.store.hand_over()
    return _effect(stage, chance, lambda: None)


def _fail_over(stage, chance, harm):
    if not stage.store.is_whole:
        return None
    return _effect(stage, chance, stage.store.fail_over(harm))


def _effect(stage, chance, undo):
    """Return the effect: what the old primary alone has seen is done, or called, again."""
    again = stage.crew.deliveries * stage.load.batch
    return Effect(
        chance.uniform(*AFTER),
        undo,
        doubtful=again,
        spilled=givers(stage) + again,
        calls_from=stage.store.moved_at + WELL,
    )


SINGLE = (fail_over_behind_the_same_address,)
REPLICATED = (
    fail_over_from_a_killed_primary,
    fail_over_from_a_frozen_primary,
    hand_over_to_a_replica,
)
