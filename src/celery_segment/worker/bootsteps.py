"""The worker's own tick: what makes the buffer flow without Celery beat.

A lost task message, a killed worker, a flushed broker: whatever stopped a batch
or a drain, the next tick of any worker finds it.
"""

from __future__ import annotations

import logging
from typing import Any

from celery import bootsteps

from celery_segment.buffer import buffer_of
from celery_segment.config import Settings, settings_of
from celery_segment.errors import SegmentError
from celery_segment.producer.fallback import Fallback, way_into
from celery_segment.producer.wake import wake
from celery_segment.worker.callbacks import told

__all__ = ["Check", "Tick"]

logger = logging.getLogger("celery_segment")

#: Ticks per flush_interval: a message is found at most one tick early.
TICKS = 4
SHORTEST, LONGEST = 0.05, 5.0


class Check(bootsteps.Step):
    """Refuses to start a worker on wrong settings."""

    def __init__(self, worker: Any, **_: Any) -> None:
        for source in settings_of(worker.app).enabled:
            buffer_of(worker.app, source.name)
            for hook in (source.on_delivered, source.on_failed):
                told(worker.app, hook)
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
        self.enabled = settings_of(consumer.app).tick

    def start(self, consumer: Any) -> None:
        """Start ticking; also after a reconnect, when the last timer still runs."""
        self.stop(consumer)
        period = tick_period(settings_of(consumer.app))
        arguments = (consumer.app, period)
        self._entry = consumer.timer.call_repeatedly(period, self.tick, arguments)

    def stop(self, consumer: Any) -> None:  # noqa: ARG002 - Celery's signature
        """Stop ticking."""
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None

    terminate = stop

    def tick(self, app: Any, period: float) -> None:
        """Publish a drain for each source that is due."""
        try:
            for source in settings_of(app).enabled:
                way = way_into(app, source.name)
                if isinstance(way, Fallback):
                    way.give_back()
                if buffer_of(app, source.name).due(period):
                    wake(app, source.name)
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
