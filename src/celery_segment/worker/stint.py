"""Deliver a source's batches one after the other for a short time: a task's work."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from celery.exceptions import Reject, Retry

from celery_segment.buffer import BatchRef, Buffer, Pace
from celery_segment.calls.delayed import holdable, origin_queue
from celery_segment.errors import (
    DeliveryFailed,
    SegmentBufferError,
    SegmentError,
)
from celery_segment.producer import DELIVER
from celery_segment.runtime import runtime_of
from celery_segment.text import counted, one_line
from celery_segment.worker import callbacks
from celery_segment.worker.slots import slots_of

if TYPE_CHECKING:
    from celery_segment.delivery.settle import Report

__all__ = ["STINT", "DeliveryError", "Stint"]

logger = logging.getLogger("celery_segment")

#: Seconds after which a delivery leaves the next batches to another task: long enough that
#: Celery's part of a batch is small, short enough that other tasks, other sources and a
#: worker's shutdown do not wait for it.
STINT = 0.25
#: Batches that a stint which ends claims for further tasks: two, so that a recovered source
#: speeds up step by step, and never beyond what its endpoint allows.
NEXT = 2


class DeliveryError(SegmentError):
    """An attempt failed and is retried: the cause that Flower shows."""


class Stint:
    """The deliveries of one run of a task.

    Args:
        task: The running task, bound.
        buffer: The buffer of its source.
        pace: The rate that all workers keep to.
    """

    def __init__(self, task: Any, buffer: Buffer, pace: Pace) -> None:
        self._task = task
        self._runtime = runtime_of(task.app)
        self._buffer = buffer
        self._pace = pace
        self._began = time.monotonic()
        self._done: list[BatchRef] = []
        self._last = ""
        self._slots = slots_of(task.app)
        self._others: list[BatchRef] = []

    def deliver(self, batches: Sequence[BatchRef]) -> str:
        """Deliver the first batch, then further ones for a stint; leave the others to other tasks.

        Returns:
            What was done, in plain words, for Flower.

        Raises:
            Retry: A batch is attempted again later, by the task ``segment.deliver``.
            DeliveryError: The same where Celery is eager, which retries nothing.
            DeliveryFailed: A batch became a dead letter.
            SegmentBufferError: Redis is unavailable; a drain finds the batch again.
        """
        batch, *self._others = batches
        self.hand_on()
        while True:
            report = self._attempt(batch)
            continues = self._seconds < STINT and not report.buried
            following = self._following(continues) if report.may_continue else []
            self._done.append(batch)
            self._last = report.text
            if report.rests_for and self._slots is not None:
                self._slots.rest(self._buffer.source.name, report.rests_for)
            if report.retry_in is not None:
                self._retry(batch, report.retry_in, DeliveryError(self.text))
            self._others = following[1:] if continues else following
            if continues:
                self.hand_on()
            if report.settled is not None:
                callbacks.run(self._task.app, self._buffer, report.settled)
            if report.buried:
                raise DeliveryFailed(self.text + report.details)
            if not (continues and following):
                return self.text
            batch = following[0]

    def hand_on(self) -> None:
        """Publish a delivery for each batch that is left to another task.

        Where the broker refuses it, the batches are put back: the tick finds them.
        """
        if not self._others:
            return
        task = self._task.app.tasks[DELIVER]
        queue = self._runtime.settings.queue
        try:
            with self._runtime.waker.options() as options:
                while self._others:
                    reference = _reference(self._buffer.source.shard_name, self._others[0])
                    task.apply_async(**reference, queue=queue, **options)
                    del self._others[0]
        except Exception as error:  # noqa: BLE001 - what is under way goes on
            logger.warning(
                "%s: %s put back, since no task could be published: %s",
                self._buffer.source.shard_name,
                _counted(self._others),
                one_line(str(error)),
            )
            self._put_back()

    def _put_back(self) -> None:
        batches, self._others = self._others, []
        with suppress(SegmentBufferError):  # their lease finds them
            for batch in batches:
                self._buffer.release(batch.id)

    @property
    def text(self) -> str:
        """What was done, in plain words."""
        before = self._done[:-1]
        if not before:
            return self._last
        took = f"{self._seconds * 1000:,.0f} ms"
        return f"{self._last}; before it {_counted(before)}, in all {took}"

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _attempt(self, batch: BatchRef) -> Report:
        # The HTTP client is loaded by whoever delivers, with the first delivery.
        from celery_segment.delivery.attempt import attempt_at_pace
        from celery_segment.delivery.key import KeyRecord

        slots, source = self._slots, self._buffer.source.name
        key = None if slots is None else KeyRecord(slots.key_times(source))
        return attempt_at_pace(self._pace, STINT, self._buffer, batch.id, key)

    def _following(self, continues: bool) -> list[BatchRef]:
        # Where all processes are busy, the second one is not delivered by the task that is
        # published for it, but claimed by a stint that continues. So this is not tried again.
        limit = 1 if self._done else NEXT
        return self._buffer.claim_next(limit, stint=STINT, begins=continues)

    def _retry(self, batch: BatchRef, countdown: float, cause: SegmentError) -> NoReturn:
        """Have Celery attempt a batch again, as another try of the present task."""
        request, app = self._task.request, self._task.app
        if request.is_eager:  # Celery would retry at once
            raise cause
        # As Task.retry does, but a drain is followed by a delivery of the one batch.
        reference = _reference(self._buffer.source.shard_name, batch)
        signature = app.tasks[DELIVER].signature_from_request(
            request,
            args=(),
            queue=origin_queue(self._task),
            retries=request.retries + 1,
            **holdable(app, {"countdown": countdown}),
            **reference,
        )
        try:
            with self._runtime.waker.options() as options:
                signature.apply_async(**options)
        except Exception as error:  # a tick finds that the retry is overdue
            raise Reject(error, requeue=False) from error
        raise Retry(exc=cause, when=countdown, sig=signature) from None


def _counted(batches: Sequence[BatchRef]) -> str:
    """Return the numbers of batches and of their messages, as text."""
    messages = sum(batch.count for batch in batches)
    return f"{counted(len(batches), 'batch')}, {counted(messages, 'message')}"


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
