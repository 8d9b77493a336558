"""Faults of the disk to which calls spill while Redis is away."""

from __future__ import annotations

import math
import time

from chaos.faults.base import Effect, fault, givers, held_by_redis, on_redis
from chaos.stage import fill

#: Seconds within which the disk must be full; then Redis returns all the same.
FILLING = 5.0
#: Seconds for which the disk stays full once Redis is back.
FULL = 1.5


class FullDisk:
    """Has Redis away until calls are refused by a full disk; it returns before there is room.

    Attributes:
        full_at: When the first call was refused; None while none was.
    """

    def __init__(self, stage) -> None:
        self.full_at: float | None = None
        self._stage = stage
        self._clients = stage.clients.spilling
        self._refusals = self._count()
        self._filler = stage.disk / "filler" if stage.disk else None
        self._until = time.monotonic() + FILLING
        self._is_away = True
        self._redis = stage.redis
        stage.redis_is_away = True
        self._redis.kill()
        stage.clients.fill(self._clients)

    def over(self) -> bool:
        now = time.monotonic()
        if not self._is_away:
            return now >= self._until
        if self.full_at is None and self._count() > self._refusals:
            self.full_at = now
        if self.full_at is not None or now >= self._until:
            self._fill_up()
            self._return_redis()
            self._until = time.monotonic() + FULL
        return False

    def end(self) -> None:
        """Give back what was taken to fill the disk up."""
        if self._filler is not None:
            self._filler.unlink(missing_ok=True)
        self._stage.clients.stop_filling(self._clients)

    def _count(self) -> int:
        return sum(client.refusals() for client in self._clients)

    def _return_redis(self) -> None:
        self._redis.start()
        self._stage.redis_is_away = self._is_away = False

    def _fill_up(self) -> None:
        """Leave not a byte of the disk."""
        if self._filler is not None:
            fill(self._filler, math.inf)


@fault
@on_redis
def full_disk_while_redis_is_away(stage, _):
    if not stage.clients.spilling:
        return None
    doubtful = stage.crew.deliveries * stage.load.batch
    return Effect.of(
        FullDisk(stage), doubtful=doubtful, tasks=held_by_redis(stage), spilled=givers(stage)
    )


FAULTS = (full_disk_while_redis_is_away,)
