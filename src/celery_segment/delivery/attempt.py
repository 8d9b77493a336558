"""Attempt to deliver a batch: begin, post, decide, settle."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from secrets import token_hex

from celery_segment.buffer import (
    Buffer,
    Busy,
    Damaged,
    Gone,
    Lease,
    LeasedElsewhere,
    Pace,
    SourceClosed,
    is_intact,
)
from celery_segment.config import Source, WriteKey
from celery_segment.delivery import transport
from celery_segment.delivery.answer import Answer, Failure, Unauthorized
from celery_segment.delivery.authority import authority_of
from celery_segment.delivery.key import KeyRecord, record_of
from celery_segment.delivery.outcome import Delivered, KeyState, Past, decide, refuses_key
from celery_segment.delivery.request import build
from celery_segment.delivery.settle import Posted, Report, settle_damaged, settle_patiently
from celery_segment.errors import BufferUnavailable
from celery_segment.frames import hidden_locals
from celery_segment.text import counted
from celery_segment.tracing import span_of_delivery

__all__ = ["attempt_at_pace", "attempt_delivery"]

logger = logging.getLogger("celery_segment")


def attempt_at_pace(
    pace: Pace, longest: float, buffer: Buffer, batch_id: str, key: KeyRecord | None = None
) -> Report:
    """Attempt to deliver a batch once the rate of all workers allows a request.

    Args:
        pace: The rate.
        longest: The greatest number of seconds to wait; the batch is put back where it would
            be longer.
        buffer: As for ``attempt_delivery``, and so are the others.
        batch_id: The batch's id.
        key: The answers to the write key so far.

    Raises:
        BufferUnavailable: Redis is unreachable, as for ``attempt_delivery``.
    """
    if not pace.wait(longest):
        return _put_back(buffer, batch_id, "segment_max_requests_per_second is reached")
    report = attempt_delivery(buffer, batch_id, key, pace)
    if not report.is_requested:
        pace.give_back()
    return report


@hidden_locals()
def attempt_delivery(
    buffer: Buffer, batch_id: str, key: KeyRecord | None = None, pace: Pace | None = None
) -> Report:
    """Post a batch once, and settle it according to the response.

    Do nothing if the batch is gone or leased elsewhere, or if its source is closed; the
    report says which.

    Args:
        buffer: The buffer of the source.
        batch_id: The batch's id.
        key: The answers to the write key so far; by default those that this process had.
        pace: The rate of all workers, in which the first request is reserved; one with another
            token is reserved here.

    Raises:
        BufferUnavailable: Redis is unreachable. If the request was made, its outcome is not
            recorded, and the batch is sent again once its lease has expired.
    """
    source, write_key = buffer.source, buffer.source.write_key
    if write_key is None:
        return _put_back(buffer, batch_id, "this worker has no write key for the source")
    lease = buffer.begin(batch_id, token_hex(8))
    if not isinstance(lease, Lease):
        return _not_begun(lease)
    if not is_intact(lease.body, lease.size):
        return settle_damaged(buffer, lease)
    traces, began = partial(buffer.traces, lease), time.monotonic()
    key = key or record_of(source.name, source.host)
    with span_of_delivery(
        source.name, source.batch_name(lease.id), traces, count=lease.count, size=lease.size
    ) as end_span:
        try:
            posted = _post(source, write_key, lease, key, pace)
        except Damaged:
            end_span("", "damaged")
            return settle_damaged(buffer, lease)
        report = settle_patiently(buffer, lease, posted)
        delivered = isinstance(posted.decision, Delivered)
        end_span(posted.status, "" if delivered else report.text)
    if delivered:
        key.accept(began)
    return replace(report, is_requested=bool(posted.status))


def _put_back(buffer: Buffer, batch_id: str, why: str) -> Report:
    """Give a claimed batch back without an attempt.

    Raises:
        BufferUnavailable: Redis is unreachable.
    """
    buffer.release(batch_id)
    return Report(f"put back: {why}")


def _not_begun(found: Gone | LeasedElsewhere | SourceClosed | Busy) -> Report:
    match found:
        case Gone():
            return Report("nothing to do: the batch is settled, or waiting for a retry")
        case LeasedElsewhere():
            return Report("nothing to do: another worker is delivering the batch")
        case SourceClosed(None):
            return Report("put back: the source is closed until it is resumed")
        case SourceClosed(seconds):
            return Report(f"put back: the source is closed for {seconds:.1f} s")
        case Busy(limit):
            return Report(f"put back: {counted(limit, 'request')} may be under way at present")


def _post(
    source: Source, write_key: WriteKey, lease: Lease, key: KeyRecord, pace: Pace | None
) -> Posted:
    """Make the request, and decide what to do with the batch.

    Raises:
        Damaged: The batch's content cannot be unpacked.
    """
    started = time.monotonic()
    result = _answer(source, write_key, lease, pace)
    now = datetime.now(timezone.utc)
    state = KeyState()
    if refuses_key(result):
        state = key.refuse(source.batch_name(lease.id), lease.delivered_ago)
    decision = decide(result, source, _past(lease), state, now)
    return Posted(decision, _status(result), time.monotonic() - started)


def _answer(
    source: Source, write_key: WriteKey, lease: Lease, pace: Pace | None
) -> Answer | Failure | Unauthorized:
    """Post the batch; once more, authorized anew, where that may be what was refused."""
    authority = authority_of(source, write_key)
    for requests in (lease.requests, lease.requests + 1):
        authorization = authority.authorize()
        if isinstance(authorization, Unauthorized):
            return authorization
        if pace is not None and requests > lease.requests:
            # Where the rate leaves no room in this time, it is made all the same: the lease runs.
            with suppress(BufferUnavailable):
                pace.wait(source.timeout)
        now = datetime.now(timezone.utc)
        try:
            request = build(source, authorization, lease.body, requests, now)
        except Exception:  # noqa: BLE001 - of zlib, ISA-L or ours: it cannot be unpacked
            raise Damaged from None
        result = transport.post(request, source)
        if not isinstance(result, Answer) or not authority.is_refused(result.status):
            break
    return result


def _status(result: Answer | Failure | Unauthorized) -> str:
    """Return the status under which the metrics count an attempt; "" if none was made."""
    if isinstance(result, Answer):
        return str(result.status)
    if isinstance(result, Unauthorized) or result.kind == "configuration":
        return ""
    return result.kind


def _past(lease: Lease) -> Past:
    return Past(
        lease.count,
        lease.attempts,
        lease.age,
        lease.refusals,
        lease.others_delivered,
        lease.alone,
    )
