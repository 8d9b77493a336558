"""The two tasks of the workers: drain delivers what waits, deliver delivers one batch.

Their messages carry references alone: the batch in Redis is what counts. The tick repeats
a task message that was lost, and a doubled one finds nothing to do.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from celery import shared_task

from celery_segment.buffer import BatchRef, Buffer
from celery_segment.calls.fixed import FIXED
from celery_segment.errors import BufferUnavailable, DeliveryFailed, SegmentBufferError
from celery_segment.frames import hidden_locals
from celery_segment.producer import DELIVER, DRAIN
from celery_segment.runtime import runtime_of
from celery_segment.text import counted
from celery_segment.worker import callbacks
from celery_segment.worker.slots import slots_of
from celery_segment.worker.stint import STINT, DeliveryError, Stint

__all__ = ["deliver", "drain"]

logger = logging.getLogger("celery_segment")

#: Seconds for which a drain tries to reach Redis.
PATIENCE = 1.0

_OPTIONS = {
    # The lease, not the broker, finds a batch whose worker died: acks_late is False.
    **FIXED,
    "bind": True,
    # A dead letter is a failure, for Flower and for Celery's signals; the log has reported it.
    # So is an attempt that failed, where Celery is eager and cannot retry it.
    "throws": (DeliveryFailed, DeliveryError),
}


@shared_task(name=DRAIN, **_OPTIONS)
def drain(self: Any, source: str) -> str:
    """Deliver what waits in a source's buffer; fail where Celery is eager and that fails.

    Both tasks have the name of a source's shard: of the first, and of most sources' only one, that
    is the source's.
    """
    buffer = runtime_of(self.app).buffer(source)
    if why := _left_to_others(self.app, buffer):
        if self.request.is_eager:
            raise DeliveryError(why)
        return why
    with _stint(self, buffer) as stint:
        if stint is None:
            return _NO_SLOT
        try:
            taken, uncalled = _reap(buffer)
            expired = buffer.expire_dead()
            for settled in buffer.uncalled() if uncalled else ():
                callbacks.run(self.app, buffer, settled)
            if claimed := buffer.claim(buffer.source.max_inflight, stint=STINT):
                return stint.deliver(claimed)
            if self.request.is_eager:
                _refuse_to_leave_any(buffer)
            compressed = _compress(buffer)
        except SegmentBufferError as error:
            if self.request.is_eager:
                raise
            return _cut_off(source, error)
    done = (
        f"took back {counted(taken, 'batch')}" if taken else "",
        f"compressed {counted(compressed, 'batch')}" if compressed else "",
        f"deleted old dead letters of {counted(expired, 'message')}" if expired else "",
    )
    return "; ".join(filter(None, done)) or "nothing to deliver"


@shared_task(name=DELIVER, **_OPTIONS)
def deliver(self: Any, source: str, batch: str, messages: int, bytes: int) -> str:  # noqa: A002 - shown in Flower
    """Post a batch, settle it by the outcome, and continue with further ones for a stint."""
    buffer = runtime_of(self.app).buffer(source)
    if not _takes(self, buffer, batch):
        return "nothing to do: another delivery has taken the batch, or it was put back"
    why = _left_to_others(self.app, buffer)
    if not why:
        with _stint(self, buffer) as stint:
            if stint is not None:
                try:
                    return stint.deliver([BatchRef(batch, messages, bytes)])
                except SegmentBufferError as error:
                    return _cut_off(source, error)
        why = _NO_SLOT
    try:
        buffer.release(batch)
    except SegmentBufferError as error:
        return _cut_off(source, error)
    return f"put back: {why}"


def _reap(buffer: Buffer) -> tuple[int, bool]:
    """As ``Buffer.reap``, patiently: whoever started the drain has just heard Redis."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return buffer.reap()
        except BufferUnavailable:
            if time.monotonic() > until:
                raise
        time.sleep(PATIENCE / 20)


def _cut_off(source: str, error: SegmentBufferError) -> str:
    logger.warning("%s: cut off, the next drain will go on: %s", source, error)
    return f"cut off: {error}"


def _takes(task: Any, buffer: Buffer, batch: str) -> bool:
    """Return whether a batch is left to this task: a stint that had time may have taken it.

    A retry finds that out when it begins.
    """
    if task.request.retries:
        return True
    try:
        return buffer.take(batch)
    except SegmentBufferError:
        return True  # the attempt fails likewise, and is made again later


def _left_to_others(app: Any, buffer: Buffer) -> str:
    """Return why this worker leaves a source to others at present; "" if it does not."""
    if buffer.source.write_key is None:
        return "this worker has no write key for the source"
    slots = slots_of(app)
    if slots is not None and slots.rests(buffer.source.name):
        return "this worker leaves the source to others at present; its log says why"
    return ""


_NO_SLOT = "segment_worker_share is reached"


@contextmanager
def _stint(task: Any, buffer: Buffer) -> Iterator[Stint | None]:
    """Hold one of the worker's slots for a stint; yield None where none is free.

    Afterwards, the next source that waits for a slot is drained, and what this stint leaves
    to other tasks is published behind that.
    """
    runtime, slots = runtime_of(task.app), slots_of(task.app)
    stint = Stint(task, buffer, runtime.pace)
    free = False
    try:
        # Outside of a worker there is no limit.
        with nullcontext(True) if slots is None else slots.taken(buffer.source.shard_name) as free:
            yield stint if free else None
    finally:
        if slots is not None and free and (waiting := slots.next_waiting()) is not None:
            runtime.wake_shard(waiting)
        stint.hand_on()


def _refuse_to_leave_any(buffer: Buffer) -> None:
    """Fail where messages wait that may not be delivered now: no tick will look again."""
    figures = buffer.admin.snapshot()
    if figures.waiting:
        gate = figures.gate
        why = "no attempt is due" if gate.state == "open" else f"the source is {gate}"
        raise DeliveryError(f"waiting: {counted(figures.waiting, 'message')}, as {why}")


@hidden_locals()
def _compress(buffer: Buffer) -> int:
    """Compress what waits in a backlog, for a stint, and count it; a later drain does the rest."""
    until, count = time.monotonic() + STINT, 0
    while batches := buffer.compressible():
        for batch in batches:
            count += buffer.compress(batch)
            if time.monotonic() > until:
                return count
    return count
