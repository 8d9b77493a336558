"""Faults of Sentinels."""

from __future__ import annotations

import time

from chaos.faults.base import Effect, fault


@fault
def kill_the_first_sentinel(stage, chance):
    """Calls go on: the others say where the primary is."""
    store = stage.store
    if store.sentinel_is_away:
        return None
    began = time.monotonic()
    store.kill_sentinel()
    return Effect(chance.uniform(1, 3), store.start_sentinel, calls_from=began)


FAULTS = (kill_the_first_sentinel,)
