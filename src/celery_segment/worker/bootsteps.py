"""The worker's own tick: what makes the buffer flow without Celery beat, and without the broker.

Calls publish no task, and neither does a tick: the worker that finds a source due drains it.
A lost task message, a killed worker, a flushed broker: whichever of these stopped a batch or
a drain, the next tick of any worker finds it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from celery import bootsteps
from celery.worker.state import active_requests

from celery_segment.buffer import (
    STORES,
    Buffer,
    BufferAdmin,
    RightsMissing,
    check_format,
    register_sources,
)
from celery_segment.calls.requests import answer_again, forget_answers
from celery_segment.config import Settings, Source
from celery_segment.errors import ConfigurationError, SegmentBufferError
from celery_segment.producer import DRAIN, recording
from celery_segment.runtime import Runtime, runtime_of
from celery_segment.worker.callbacks import hook_of
from celery_segment.worker.interview import register_interview
from celery_segment.worker.local import queue_of, run_here
from celery_segment.worker.receiving import check_content, check_queues
from celery_segment.worker.slots import Slots, share_slots, slots_of
from celery_segment.worker.ticker import REST, Ticker

__all__ = ["Check", "Tick"]

logger = logging.getLogger("celery_segment")

#: Seconds between two ticks: four flushes a second cost a few per cent of a core, and a message
#: waits an eighth of a second on average.
PERIOD = 0.25
#: Ticks between two looks at what was spilled to files.
SPILL = 4


class Check(bootsteps.Step):
    """Refuses to start a worker on wrong settings, and prepares what its processes share.

    An application that sets nothing of this library and has no Redis is left alone: another
    one in the process has imported it.
    """

    def __init__(self, worker: Any, **_: Any) -> None:
        runtime = runtime_of(worker.app)
        settings = runtime.settings
        if settings.is_unused:
            return
        register_interview()
        if runtime.loses_calls:
            recording.warn_once()
        if settings.enabled:
            check_content(worker.app)
            check_queues(worker.app)
        unread = set()
        for source in settings.enabled:
            unread |= _prepare(worker.app, runtime, source)
        if settings.enabled:
            _register_sources(runtime)
        slots = Slots(
            {name: shard.name for name, shard in settings.shards.items()},
            1.0 if _is_dedicated(worker.app, settings) else settings.worker_share,
        )
        slots.resize(worker.concurrency or 1)
        slots.unread = unread
        # Before the pool: its processes inherit them.
        share_slots(worker.app, slots)


def _prepare(app: Any, runtime: Runtime, source: Source) -> set[str]:
    """Check a source; return its shards of which is not known yet whether this release reads them.

    Raises:
        ConfigurationError: The worker cannot deliver it.
    """
    _check_key(source)
    shards = runtime.shards(source.name)
    for buffer in shards:
        _check_rights(buffer)
    unread = {each.source.shard_name for each in shards if not _reads_format(each.admin)}
    for hook in (source.on_delivered, source.on_failed):
        hook_of(app, hook)
    for buffer in shards:
        _claim_ownership(app, buffer)
    if source.write_key is None:
        logger.warning("%s: no write key; its messages wait until a worker has one", source.name)
    return unread


def _check_key(source: Source) -> None:
    """Refuse a key of OAuth that cannot sign."""
    if source.oauth is not None:
        from celery_segment.delivery.oauth.assertion import check_key  # needs the extra

        check_key(source.name, source.oauth)


def _check_rights(buffer: Buffer) -> None:
    """Refuse a user of Redis who may claim batches, but not do all that settles them."""
    try:
        buffer.check_rights()
    except RightsMissing as error:
        raise ConfigurationError(error.problem, hint=error.hint) from None
    except SegmentBufferError:  # to be told by the tick, if it lasts
        pass


def _reads_format(admin: BufferAdmin) -> bool:
    """Note in which format this release stores a source; return False where Redis is away.

    Raises:
        ConfigurationError: It is stored in a newer one.
    """
    try:
        check_format(admin.source.shard_name, admin.note_format(STORES))
    except SegmentBufferError:  # to be told by the tick, if it lasts
        return False
    return True


def _claim_ownership(app: Any, buffer: Buffer) -> None:
    """Warn where the source in this Redis is that of another application."""
    with suppress(SegmentBufferError):  # to be told by the tick, if it lasts
        owner = buffer.admin.claim_ownership(app.main or "")
        if owner != (app.main or ""):
            logger.warning(
                "%s: application %r delivers this source from the same Redis database as %r; if"
                " they are not to share its messages, give each a segment_namespace",
                buffer.source.shard_name,
                owner,
                app.main,
            )


def _register_sources(runtime: Runtime) -> None:
    """Note this worker's sources, so that one that is renamed later does not become invisible."""
    settings = runtime.settings
    with suppress(SegmentBufferError):  # as above; `segment check` searches the keys, too
        names = [name for name, shard in settings.shards.items() if shard.enabled]
        register_sources(runtime.topology, settings.namespace, names)


class Tick(bootsteps.StartStopStep):
    """Asks, four times a second, which sources are due, and starts a drain of each."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **_: Any) -> None:
        self._entry: Any = None
        self._ticker: Ticker | None = None
        self._count = 0
        self._queue = ""
        settings = runtime_of(consumer.app).settings
        self.enabled = settings.tick and not settings.is_unused

    def start(self, consumer: Any) -> None:
        """Start ticking; also after a reconnect, when the last timer still runs."""
        self.stop(consumer)
        forget_answers()
        runtime = runtime_of(consumer.app)
        # Without the write key, this worker leaves a source to others.
        shards = [
            shard
            for shard in runtime.settings.shards.values()
            if shard.enabled and shard.write_key is not None
        ]
        if not shards:
            return
        self._queue = queue_of(consumer.app, DRAIN, runtime.settings.queue)
        timeout = runtime.settings.redis_timeout
        period = tick_period(shards)
        if self._ticker is None:  # a reconnect to the broker leaves its connection as it is
            self._ticker = Ticker(shards, runtime.connect(timeout, rest=REST), period, timeout)
        self._entry = consumer.timer.call_repeatedly(period, self.tick, (consumer, self._ticker))

    def stop(self, consumer: Any) -> None:  # noqa: ARG002 - Celery's signature
        """Stop ticking."""
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None

    terminate = stop

    def tick(self, consumer: Any, ticker: Ticker) -> None:
        """Start a drain of each source that is due, if this worker is one of those that drain."""
        answer_again()
        runtime = runtime_of(consumer.app)
        if self._queue in consumer.app.amqp.queues.consume_from:
            slots = slots_of(consumer.app)
            shards = runtime.settings.shards
            resting = {n for n, s in shards.items() if slots is not None and slots.rests(s.name)}
            for shard in ticker.tick(free=_has_free_process(consumer), but=resting):
                if _may_drain(ticker, slots, shards[shard]):
                    run_here(consumer, DRAIN, self._queue, shard)
        self._count += 1
        if self._count % SPILL == 0 and not ticker.is_cut_off:
            _give_back(runtime)


def _may_drain(ticker: Ticker, slots: Slots | None, source: Source) -> bool:
    """Return whether this worker reads a source, which may not have been known at its start."""
    if slots is None or source.shard_name not in slots.unread:
        return True
    try:
        found = _reads_format(BufferAdmin(ticker.topology, source))
    except ConfigurationError as error:
        logger.error("%s; this worker leaves it to others, until it is started again", error)  # noqa: TRY400
        slots.rest(source.name, math.inf)
        return False
    if found:
        slots.unread.discard(source.shard_name)
    return found


def _has_free_process(consumer: Any) -> bool:
    """Return whether a drain could begin in this worker now."""
    slots, processes = slots_of(consumer.app), consumer.pool.num_processes or 1
    if len(active_requests) >= processes:
        return False
    if slots is None:
        return True
    slots.resize(processes)
    return slots.any_free()


def _give_back(runtime: Runtime) -> None:
    """Move some of what was spilled into the buffer; of each source by itself."""
    for fallback in runtime.fallbacks():
        with _logged(fallback.source):
            fallback.give_back()


@contextmanager
def _logged(source: str) -> Iterator[None]:
    """Log an exception of a block: nothing that a file holds may end the tick of the others."""
    try:
        yield
    except Exception:
        logger.exception("%s: what was spilled cannot be read", source)


def _is_dedicated(app: Any, settings: Settings) -> bool:
    """Return whether this worker consumes only the queue of the library's own tasks."""
    return settings.queue is not None and set(app.amqp.queues.consume_from) == {settings.queue}


def tick_period(sources: Iterable[Source]) -> float:
    """Return the seconds between two ticks."""
    return min(PERIOD, *(source.flush_interval for source in sources))
