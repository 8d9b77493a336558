"""The two tasks of the workers: drain claims batches, deliver delivers one.

Their messages carry references alone: the batch in Redis is what counts. The tick repeats
a task message that was lost, and a doubled one finds nothing to do.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from celery import shared_task

from celery_segment.buffer import BatchRef, Buffer
from celery_segment.errors import BufferUnavailable, DeliveryFailed, SegmentError
from celery_segment.producer import DELIVER, DRAIN
from celery_segment.runtime import runtime_of
from celery_segment.text import counted
from celery_segment.worker import callbacks

if TYPE_CHECKING:
    from celery_segment.delivery.settle import Report

__all__ = ["DeliveryError", "deliver", "drain"]

logger = logging.getLogger("celery_segment")

#: Batches that a delivery which ends claims: two, so that a recovered source speeds up
#: step by step, and never beyond max_inflight.
NEXT = 2
#: Seconds after which a delivery leaves the next batches to another task: long enough that
#: Celery's part of a batch is small, short enough that other tasks, other sources and a
#: worker's shutdown do not wait for it.
STINT = 0.25
#: Seconds until a delivery that found Redis away is tried again.
AGAIN = 5.0

_OPTIONS = {
    "bind": True,
    "ignore_result": True,
    "store_errors_even_if_ignored": False,
    # The lease, not the broker, finds a batch whose worker died.
    "acks_late": False,
    "max_retries": None,
    "serializer": "json",
    "typing": False,
}


class DeliveryError(SegmentError):
    """An attempt failed and is retried: the cause that Flower shows."""


@shared_task(name=DRAIN, **_OPTIONS)
def drain(self: Any, source: str) -> str:
    """Claim what waits in a source's buffer and publish a delivery for each batch."""
    buffer = runtime_of(self.app).buffer(source)
    try:
        taken_over, uncalled = buffer.reap()
        claimed = buffer.claim(buffer.source.max_inflight)
        _publish(self.app, source, [*taken_over, *claimed])
        for settled in buffer.uncalled() if uncalled else ():
            callbacks.run(self.app, buffer, settled)
        compressed = _compress(buffer)
    except BufferUnavailable as error:
        logger.warning("%s: a drain was cut off, the tick will repeat it: %s", source, error)
        return f"cut off: {error}"
    done = (
        f"took over {_counted(taken_over)}" if taken_over else "",
        f"claimed {_counted(claimed)}" if claimed else "",
        f"compressed {counted(compressed, 'batch')}" if compressed else "",
    )
    return "; ".join(filter(None, done)) or "nothing to claim"


# A dead letter is a failure, for Flower and for Celery's signals; the log has reported it already.
@shared_task(name=DELIVER, throws=(DeliveryFailed,), **_OPTIONS)
def deliver(self: Any, source: str, batch: str, messages: int, bytes: int) -> str:  # noqa: A002 - shown in Flower
    """Post a batch, settle it by the outcome, and continue with further ones for a stint."""
    from celery_segment.delivery.attempt import attempt_delivery

    buffer = runtime_of(self.app).buffer(source)
    at, done = BatchRef(batch, messages, bytes), _Done()
    while True:
        try:
            report = attempt_delivery(buffer, at.id)
            following = buffer.claim_next(NEXT) if report.may_continue else []
        except BufferUnavailable as error:
            if self.request.is_eager:
                raise
            # Where this cannot be published either, the lease finds the batch.
            raise self.retry(exc=error, countdown=AGAIN, **_reference(source, at)) from None
        done.add(at, report)
        if report.retry_in is not None and not self.request.is_eager:
            cause = DeliveryError(done.text)
            raise self.retry(exc=cause, countdown=report.retry_in, **_reference(source, at))
        continues = bool(following) and done.seconds < STINT and not report.buried
        _publish(self.app, source, following[1:] if continues else following)
        if report.settled is not None:
            callbacks.run(self.app, buffer, report.settled)
        if report.buried and not self.request.is_eager:
            raise DeliveryFailed(done.text)
        if not continues:
            return done.text
        at = following[0]


def _compress(buffer: Buffer) -> int:
    """Compress what waits in a backlog, for a stint, and count it; a later drain does the rest."""
    until, count = time.monotonic() + STINT, 0
    while batches := buffer.compressible():
        for batch in batches:
            count += buffer.compress(batch)
            if time.monotonic() > until:
                return count
    return count


class _Done:
    """What a delivery has done so far, in plain words, and for how long."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._batches: list[BatchRef] = []
        self._last = ""

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def add(self, batch: BatchRef, report: Report) -> None:
        self._batches.append(batch)
        self._last = report.text

    @property
    def text(self) -> str:
        before = self._batches[:-1]
        if not before:
            return self._last
        return f"{self._last}; before it {_counted(before)}, in all {self.seconds * 1000:,.0f} ms"


def _publish(app: Any, source: str, batches: Sequence[BatchRef]) -> None:
    if not batches:
        return
    with app.producer_or_acquire() as producer:
        for batch in batches:
            app.tasks[DELIVER].apply_async(**_reference(source, batch), producer=producer)


def _reference(source: str, batch: BatchRef) -> dict[str, Any]:
    """Return the arguments of a batch's delivery, and how they are shown."""
    messages, size = counted(batch.count, "message"), counted(batch.size, "byte")
    return {
        "kwargs": {
            "source": source,
            "batch": batch.id,
            "messages": batch.count,
            "bytes": batch.size,
        },
        "kwargsrepr": f"{source}, batch {batch.id}, {messages}, {size}",
    }


def _counted(batches: Sequence[BatchRef]) -> str:
    messages = sum(batch.count for batch in batches)
    return f"{counted(len(batches), 'batch')}, {counted(messages, 'message')}"
