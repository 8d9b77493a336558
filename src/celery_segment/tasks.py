"""The two tasks of the workers: drain claims batches, deliver delivers one.

Their messages are doorbells: they carry references, and the batch in Redis is
the truth. One that is lost is rung again by the tick, one that is doubled finds
nothing to do.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from celery import shared_task

from celery_segment import callbacks
from celery_segment.buffer import Batch, buffer_of
from celery_segment.doorbell import DRAIN
from celery_segment.errors import BufferUnavailable, SegmentError

__all__ = ["DeliveryError", "deliver", "drain"]

logger = logging.getLogger("celery_segment")

#: What a delivery that ends claims: two, so that a recovered source speeds up
#: step by step, and never beyond max_inflight.
NEXT = 2
#: Seconds until a delivery that found Redis away is tried again.
AGAIN = 5.0

_DOORBELL = {
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


@shared_task(name=DRAIN, **_DOORBELL)
def drain(self: Any, source: str) -> str:
    """Claim what waits in a source's buffer and publish a delivery for each batch."""
    buffer = buffer_of(self.app, source)
    try:
        taken_over, uncalled = buffer.reap()
        claimed = buffer.claim(buffer.source.max_inflight, whatever_waits=True)
    except BufferUnavailable as error:
        logger.warning("%s: not drained, the tick tries again: %s", source, error)
        return f"not drained: {error}"
    _publish(self.app, source, [*taken_over, *claimed])
    for settled in buffer.uncalled() if uncalled else ():
        callbacks.call(self.app, buffer, settled)
    text = _counted(claimed)
    return f"{text}; taken over: {_counted(taken_over)}" if taken_over else text


@shared_task(name="segment.deliver", **_DOORBELL)
def deliver(self: Any, source: str, batch: str, messages: int, bytes: int) -> str:  # noqa: A002, ARG001 - shown in Flower
    """Post a batch once, settle it by the outcome, and claim the next."""
    from celery_segment import delivery

    buffer = buffer_of(self.app, source)
    try:
        report = delivery.attempt(buffer, batch)
        following = [] if report.retry_in is not None else buffer.claim(NEXT, whatever_waits=False)
    except BufferUnavailable as error:
        if self.request.is_eager:
            raise
        # Where this cannot be published either, the lease finds the batch.
        raise self.retry(exc=error, countdown=AGAIN) from None
    if report.retry_in is None:
        _publish(self.app, source, following)
        if report.settled is not None:
            callbacks.call(self.app, buffer, report.settled)
    elif not self.request.is_eager:
        raise self.retry(exc=DeliveryError(report.text), countdown=report.retry_in)
    return report.text


def _publish(app: Any, source: str, batches: Sequence[Batch]) -> None:
    if not batches:
        return
    with app.producer_or_acquire() as producer:
        for batch in batches:
            kwargs = {
                "source": source,
                "batch": batch.id,
                "messages": batch.messages,
                "bytes": batch.bytes,
            }
            app.tasks["segment.deliver"].apply_async(kwargs=kwargs, producer=producer)


def _counted(batches: Sequence[Batch]) -> str:
    if not batches:
        return "nothing"
    return f"{len(batches):,} batches, {sum(b.messages for b in batches):,} messages"
