"""Faults of a cluster."""

from __future__ import annotations

import time

from chaos.faults.base import Effect, fault, givers, on_redis
from chaos.faults.failover import WELL


@fault
@on_redis
def move_the_slot(stage, chance):
    """Move the buffer to another server under calls and deliveries."""
    if not stage.store.is_whole:
        return None
    stage.store.move_slot(chance)
    doubtful = stage.crew.deliveries * stage.load.batch
    return Effect(
        chance.uniform(2, 3),
        doubtful=doubtful,
        spilled=givers(stage),
        calls_from=stage.store.moved_at + WELL,
    )


@fault
@on_redis
def freeze_another_primary(stage, chance):
    """Calls go on: the buffer is on none of its slots."""
    if not stage.store.is_whole:
        return None
    began, server = time.monotonic(), stage.store.freeze_another(chance)
    return Effect(chance.uniform(1, 3), lambda: stage.store.resume(server), calls_from=began)


FAULTS = (move_the_slot, freeze_another_primary)
