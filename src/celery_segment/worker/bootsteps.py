"""The worker's own tick: what makes the buffer flow without Celery beat.

A lost task message, a killed worker, a flushed broker: whichever of these stopped a batch
or a drain, the next tick of any worker finds it.
"""

from __future__ import annotations

import logging
from typing import Any

from celery import bootsteps

from celery_segment.config import Settings
from celery_segment.errors import SegmentError
from celery_segment.runtime import Runtime, runtime_of
from celery_segment.worker.callbacks import hook_of

__all__ = ["Check", "Tick"]

logger = logging.getLogger("celery_segment")

#: Ticks per flush_interval: a message is found at most one tick early.
TICKS = 4
SHORTEST, LONGEST = 0.05, 5.0


class Check(bootsteps.Step):
    """Refuses to start a worker on wrong settings."""

    def __init__(self, worker: Any, **_: Any) -> None:
        runtime = runtime_of(worker.app)
        for source in runtime.settings.enabled:
            runtime.buffer(source.name)
            for hook in (source.on_delivered, source.on_failed):
                hook_of(worker.app, hook)
            if source.write_key is None:
                logger.warning(
                    "%s: no write key; its messages wait until a worker has one", source.name
                )


class Tick(bootsteps.StartStopStep):
    """Asks every source, a few times per flush_interval, whether a drain is due."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **_: Any) -> None:
        self._entry: Any = None
        self._failing = False
        self.enabled = runtime_of(consumer.app).settings.tick

    def start(self, consumer: Any) -> None:
        """Start ticking; also after a reconnect, when the last timer still runs."""
        self.stop(consumer)
        runtime = runtime_of(consumer.app)
        period = tick_period(runtime.settings)
        self._entry = consumer.timer.call_repeatedly(period, self.tick, (runtime, period))

    def stop(self, consumer: Any) -> None:  # noqa: ARG002 - Celery's signature
        """Stop ticking."""
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None

    terminate = stop

    def tick(self, runtime: Runtime, period: float) -> None:
        """Publish a drain for each source that is due."""
        try:
            for fallback in runtime.fallbacks():
                fallback.give_back()
            for source in runtime.settings.enabled:
                if runtime.buffer(source.name).due(period):
                    runtime.wake(source.name)
        except SegmentError as error:
            if not self._failing:
                logger.warning("%s; trying again at each tick", error)
            self._failing = True
        else:
            self._failing = False


def tick_period(settings: Settings) -> float:
    """Return the seconds between two ticks."""
    interval = min(source.flush_interval for source in settings.sources.values())
    return min(max(interval / TICKS, SHORTEST), LONGEST)
