"""Deliver in the present process, without a worker and without the broker.

For a script, for an operator whose broker is down or whose Redis is full, and for a task
that would otherwise wait for the worker that runs it. A batch is claimed, posted and settled
exactly as a worker does it, so both may work on a source at the same time.
"""

from __future__ import annotations

import heapq
import logging
import time
from collections.abc import Callable, Collection
from typing import Any

from celery_segment.buffer import Buffer, Gate, check_format
from celery_segment.config import Source
from celery_segment.errors import BufferUnavailable
from celery_segment.runtime import runtime_of
from celery_segment.worker import callbacks

__all__ = ["Deliverer", "deliver", "deliverers_of", "take_back"]

logger = logging.getLogger("celery_segment")

#: Seconds between two looks at a source that has nothing to deliver at the moment.
POLL = 0.25
#: Seconds to wait for a request at most, where segment_max_requests_per_second is reached.
LONGEST = 60.0


class Deliverer:
    """Delivers the batches of one shard of a source, one at a time.

    Args:
        app: The Celery application.
        shard: The shard.

    Attributes:
        source: The source's name.
        remaining: Messages that were neither delivered nor given up at the last look.
        gate: Whether batches could be delivered at the last look.
    """

    def __init__(self, app: Any, shard: Source) -> None:
        self._app = app
        runtime = runtime_of(app)
        self.source = shard.name
        self.remaining = 0
        self.gate = Gate()
        self._is_readable = False
        self._buffer: Buffer | None = None
        if runtime.producer(shard.name).delivers:
            self._buffer, self._pace = runtime.buffer(shard.shard_name), runtime.pace
        # Batches that were posted and failed, by the time of their next attempt.
        self._retries: list[tuple[float, str]] = []
        self._rests_until = 0.0

    def step(self) -> float:
        """Attempt one batch, if one is due.

        Returns:
            Seconds until the next step is worthwhile: 0 when more may be due now.
        """
        if self._buffer is None:
            return POLL
        if not self._is_readable:
            self.look()
        take_back(self._app, self._buffer)
        self._buffer.expire_dead()
        if self.left_to_others:
            self.look()
            return POLL
        batch = self._next_batch(self._buffer)
        if batch is None:
            self.look()
            waits = [POLL, *(at - time.monotonic() for at, _ in self._retries[:1])]
            return max(min(waits), 0.0)
        self._attempt(self._buffer, batch)
        self.look()
        return 0.0

    def look(self) -> None:
        """Look again at what remains.

        Raises:
            ConfigurationError: It is stored in a format that this release does not read.
        """
        if self._buffer is not None:
            figures = self._buffer.admin.snapshot()
            check_format(self.source, figures.format)
            self._is_readable = True
            self.remaining, self.gate = figures.waiting, figures.gate

    @property
    def is_done(self) -> bool:
        """Whether nothing remains that waiting could deliver.

        A paused source waits for an operator, and one that refuses the configuration for
        another configuration.
        """
        waits_for_people = self.gate.state == "paused" or self.gate.refused
        return not self.remaining or waits_for_people or bool(self.left_to_others)

    @property
    def left_to_others(self) -> str:
        """Why this process leaves the source to others at present; "" if it does not."""
        if self._buffer is None:
            return ""
        if self._buffer.source.write_key is None:
            return "this process has no write key for the source"
        if time.monotonic() < self._rests_until and not self.gate.refused:
            is_key = self._buffer.source.oauth is None
            what = "write key is refused (401)" if is_key else "requests are not authorized"
            return f"this process' {what}, while others deliver"
        return ""

    def _next_batch(self, buffer: Buffer) -> str | None:
        if self._retries and self._retries[0][0] <= time.monotonic():
            return heapq.heappop(self._retries)[1]
        claimed = buffer.claim(1)
        return claimed[0].id if claimed else None

    def _attempt(self, buffer: Buffer, batch: str) -> None:
        from celery_segment.delivery.attempt import attempt_at_pace

        report = attempt_at_pace(self._pace, LONGEST, buffer, batch)
        self._rests_until = time.monotonic() + report.rests_for
        if report.retry_in is not None:
            heapq.heappush(self._retries, (time.monotonic() + report.retry_in, batch))
        if report.settled is not None:
            callbacks.run(self._app, buffer, report.settled)


def deliverers_of(app: Any, source: str) -> list[Deliverer]:
    """Return what delivers a source in this process: one for each shard.

    Raises:
        ConfigurationError: There is no such source, or its key of OAuth cannot sign.
    """
    found = runtime_of(app).settings.source(source)
    if found.oauth is not None:
        from celery_segment.delivery.oauth.assertion import check_key  # needs the extra

        check_key(source, found.oauth)
    shards = found.split()
    return [Deliverer(app, shard) for shard in shards]


def take_back(app: Any, buffer: Buffer) -> None:
    """Take over from workers that are gone: their batches, and the callbacks that they left."""
    _, uncalled = buffer.reap()
    for settled in buffer.uncalled() if uncalled else ():
        callbacks.run(app, buffer, settled)


def deliver(
    deliverers: Collection[Deliverer],
    *,
    timeout: float | None = None,
    follow: bool = False,
    watch: Callable[[Deliverer], object] = lambda _: None,
    until: Callable[[], bool] = lambda: False,
) -> int:
    """Deliver until nothing remains, in turns where there are several sources.

    A source that is paused, whose write key this process lacks, or whose configuration the
    endpoint refuses, is not waited for. A source that is closed for a while is: its wait is the
    endpoint's own, or that of the retries.

    Args:
        deliverers: Those of each source.
        timeout: Seconds after which to stop; no limit when left out.
        follow: Continue when nothing remains, for messages that come later, and while Redis is
            unreachable.
        watch: Called with each deliverer after each of its steps.
        until: Asked after each turn: stops when it returns True.

    Returns:
        The number of messages that remain.

    Raises:
        BufferUnavailable: Redis did not answer, and ``follow`` is not given. The batch that was
            under way is found again once its lease has expired.
    """
    end = None if timeout is None else time.monotonic() + timeout
    while True:
        wait = _turn(deliverers, watch, patient=follow)
        done = wait > 0 and all(each.is_done for each in deliverers)
        left = float("inf") if end is None else end - time.monotonic()
        if until() or left <= 0 or (done and not follow):
            break
        time.sleep(min(wait, left))
    for each in deliverers:
        each.look()
    return sum(each.remaining for each in deliverers)


def _turn(
    deliverers: Collection[Deliverer], watch: Callable[[Deliverer], object], *, patient: bool
) -> float:
    """Let each deliverer make a step; return the seconds until the next turn."""
    wait = POLL
    for each in deliverers:
        try:
            wait = min(wait, each.step())
        except BufferUnavailable as error:
            if not patient:
                raise
            logger.warning("%s: %s; trying again", each.source, error)
        watch(each)
    return wait
