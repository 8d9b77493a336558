"""Attempt to deliver a batch: begin, post, decide, settle."""

from __future__ import annotations

import logging
import time
from datetime import datetime, timezone
from functools import partial
from secrets import token_hex

from celery_segment.buffer import Buffer, Busy, Gone, Lease, LeasedElsewhere, SourceClosed
from celery_segment.config import Source
from celery_segment.delivery import transport
from celery_segment.delivery.outcome import Answer, Delivered, Refused, decide
from celery_segment.delivery.request import build
from celery_segment.delivery.settle import Posted, Report, settle_patiently
from celery_segment.text import counted
from celery_segment.tracing import span_of_delivery

__all__ = ["attempt_delivery", "put_back"]

logger = logging.getLogger("celery_segment")


def attempt_delivery(buffer: Buffer, batch_id: str) -> Report:
    """Post a batch once, and settle it according to the response.

    Do nothing if the batch is gone or leased elsewhere, or if its source is closed; the
    report says which.

    Raises:
        BufferUnavailable: Redis is unreachable. If the request was made, its outcome is not
            recorded, and the batch is sent again once its lease has expired.
    """
    lease = buffer.begin(batch_id, token_hex(8))
    if not isinstance(lease, Lease):
        return _not_begun(lease)
    source = buffer.source
    traces = partial(buffer.traces, lease)
    with span_of_delivery(
        source.name, lease.id, traces, count=lease.count, size=lease.size
    ) as end_span:
        posted = _post(source, lease)
        report = settle_patiently(buffer, lease, posted)
        delivered = isinstance(posted.decision, Delivered)
        end_span(posted.status, "" if delivered else report.text)
    return report


def put_back(buffer: Buffer, batch_id: str, why: str) -> Report:
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


def _post(source: Source, lease: Lease) -> Posted:
    """Make the request, and decide what to do with the batch."""
    if source.write_key is None:
        refused = Refused(
            f"source {source.name!r} has no write key in this worker's configuration; set"
            " segment_write_key, SEGMENT_WRITE_KEY or its entry in segment_sources"
        )
        return Posted(refused, "", 0.0)
    started, now = time.monotonic(), datetime.now(timezone.utc)
    request = build(source, source.write_key, lease.body, lease.requests, now)
    result = transport.post(request, source)
    decision = decide(
        result,
        source,
        count=lease.count,
        attempts=lease.attempts,
        age=lease.age,
        now=datetime.now(timezone.utc),
    )
    status = str(result.status) if isinstance(result, Answer) else result.kind
    return Posted(decision, status, time.monotonic() - started)
