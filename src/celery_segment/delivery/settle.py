"""Settle a batch as decided, by one transition of the buffer, and report it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from celery_segment.buffer import (
    Buffer,
    Damaged,
    DeadLettersFull,
    Grouped,
    Kind,
    Lease,
    Settled,
    Stale,
    kinds_of,
)
from celery_segment.delivery.dead_log import dead_log, label_of
from celery_segment.delivery.outcome import (
    Bury,
    Decision,
    Delivered,
    Refused,
    Retry,
    Split,
    WrongKey,
)
from celery_segment.errors import BufferUnavailable
from celery_segment.signals import batch_delivered, batch_failed, batch_retried
from celery_segment.text import counted, megabytes

__all__ = ["Posted", "Report", "settle_damaged", "settle_patiently"]

logger = logging.getLogger("celery_segment")


class Breaker(NamedTuple):
    """When and for how long failures close a source.

    Attributes:
        failures: The number of consecutive failures that close it.
        first: Seconds for which it is closed the first time; doubled each time.
        longest: Maximum of these seconds.
    """

    failures: int
    first: float
    longest: float


#: The breakers for an endpoint that fails, and for one that refuses the configuration.
FAILING = Breaker(5, 1.0, 60.0)
REFUSING = Breaker(1, 5.0, 300.0)

#: Seconds by which a worker whose write key was refused tries again later than other workers.
LATER = 1.0

#: Seconds between attempts to record an outcome while Redis is unavailable.
SETTLE_AGAIN = 0.25


class Posted(NamedTuple):
    """The outcome of a request.

    Attributes:
        decision: What to do with the batch.
        status: The status under which the metrics count the attempt: the HTTP status, or the
            kind of the failure; "" if no request was made.
        seconds: The duration of the request.
    """

    decision: Decision
    status: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """The result of an attempt.

    Attributes:
        text: A description, for Flower.
        details: What Flower's page of a dead letter shows besides: Segment's code for the error, if
            it is a known one, and the next commands.
        retry_in: Seconds until the next attempt, if there is one.
        settled: The batch, if it has callbacks to run.
        may_continue: Whether this worker may deliver another batch now.
        buried: Whether the batch became a dead letter.
        rests_for: Seconds for which this worker leaves the source to others, since its write key
            was refused.
        is_requested: Whether a request was made.
    """

    text: str
    details: str = ""
    retry_in: float | None = None
    settled: Settled | None = None
    may_continue: bool = False
    buried: bool = False
    rests_for: float = 0.0
    is_requested: bool = False


def settle_patiently(buffer: Buffer, lease: Lease, posted: Posted) -> Report:
    """Settle a batch, and try again while Redis is unavailable.

    The request has been made, so a batch whose outcome is not recorded will be sent twice.
    This is tried for half the length of the lease, counted from the start of the request:
    longer would risk that the lease expires and that another worker takes the batch over.

    Raises:
        BufferUnavailable: Redis was still unavailable after that time.
    """
    dead_log.report_due()
    deadline = time.monotonic() + buffer.source.lease / 2 - posted.seconds
    was_away = False
    while True:
        try:
            return _settle(buffer, lease, posted)
        except BufferUnavailable:
            if time.monotonic() >= deadline:
                raise
            was_away = True
        except Stale:
            return _lost(buffer, lease, was_away=was_away)
        except Damaged:
            return settle_damaged(buffer, lease)
        time.sleep(SETTLE_AGAIN)


def settle_damaged(buffer: Buffer, lease: Lease) -> Report:
    """Settle a batch whose content in Redis is lost or cut off: nothing can deliver it."""
    cause = "damaged: its content in Redis is lost or cut off"
    try:
        settled = buffer.damage(lease, cause)
    except Stale:
        return _lost(buffer, lease, was_away=False)
    hint = "something else deletes from Redis: see its maxmemory-policy"
    _log_given_up(buffer, lease, {}, status="damaged", cause=cause, hint=hint)
    batch_failed.send(**_about(buffer, lease), cause=cause)
    text = f"{cause}, {counted(lease.count, 'message')}"
    return Report(text, settled=settled, may_continue=True, buried=True)


def _settle(buffer: Buffer, lease: Lease, posted: Posted) -> Report:
    decision, status, seconds = posted
    match decision:
        case Delivered(http_status):
            settled = buffer.ack(lease, status, seconds)
            about = _about(buffer, lease)
            batch_delivered.send(**about, status=http_status, seconds=seconds)
            text = f"delivered {counted(lease.count, 'message')} in {seconds * 1000:,.0f} ms"
            return Report(f"{text}: {http_status}", settled=settled, may_continue=True)
        case Retry(wait, cause, asked, own, doubtful):
            kind = "asked" if asked else "own" if own else "doubtful" if doubtful else "failure"
            return _retry(buffer, lease, posted, kind, wait, cause)
        case Refused(cause, key):
            report = _retry(buffer, lease, posted, "refused", 0.0, cause)
            # Another worker may have another key: it is to be the first that tries again.
            return replace(report, rests_for=(report.retry_in or 0.0) + LATER) if key else report
        case WrongKey(cause, rest):
            buffer.release(lease.id, lease.token)
            logger.error("%s: %s; it leaves the messages to them", buffer.source.shard_name, cause)
            return Report(f"put back: {cause}", rests_for=rest)
        case Split(cause, answered):
            buffer.split(lease, status, answered=answered)
            return Report(f"split {lease.count:,} messages in two: {cause}", may_continue=True)
        case Bury():
            return _bury(buffer, lease, posted, decision)


def _bury(buffer: Buffer, lease: Lease, posted: Posted, decision: Bury) -> Report:
    cause, source, status = decision.cause, buffer.source, posted.status
    kinds = kinds_of(lease.body)
    grouped, why = Grouped(decision.group or cause, kinds), (cause, decision.text)
    try:
        settled = buffer.bury(lease, *why, status, answered=decision.answered, grouped=grouped)
    except DeadLettersFull:
        full = f"dead letters are full ({megabytes(source.max_dead_bytes)})"
        cause = f"{full}: replay, purge or export them; this batch: {cause}"
        return _retry(buffer, lease, posted, "refused", 0.0, cause)
    hint = f"see `celery segment dead list --source {source.name}`"
    _log_given_up(buffer, lease, kinds, status=status, cause=cause, hint=hint)
    batch_failed.send(**_about(buffer, lease), cause=cause)
    text = f"dead letter, {counted(lease.count, 'message')}: {cause}"
    details = decision.details(source, source.batch_name(lease.id))
    return Report(text, details, settled=settled, may_continue=True, buried=True)


def _retry(
    buffer: Buffer, lease: Lease, posted: Posted, kind: str, wait: float, cause: str
) -> Report:
    breaker = REFUSING if kind == "refused" else FAILING
    attempt = (posted.status, posted.seconds)
    wait, trips = buffer.retry(lease, kind, wait, cause, *attempt, breaker=breaker)
    batch_retried.send(**_about(buffer, lease), cause=cause, wait=wait)
    name = buffer.source.shard_name
    if trips:
        # Only the attempt that closes the source is a warning, not every batch that fails.
        logger.warning("%s: closed for %.0f s, its messages are kept: %s", name, wait, cause)
    else:
        logger.info("%s: batch %s again in %.1f s: %s", name, lease.id, wait, cause)
    return Report(cause, retry_in=wait)


def _lost(buffer: Buffer, lease: Lease, *, was_away: bool) -> Report:
    """Report that the lease does not belong to this attempt any more."""
    if was_away:
        # An earlier attempt to settle succeeded and its reply was lost, or the lease expired
        # and another worker took the batch over.
        return Report("already settled, while Redis was unavailable", may_continue=True)
    logger.warning(
        "%s: batch %s took longer than its lease of %g s and was taken over by another worker",
        buffer.source.shard_name,
        lease.id,
        buffer.source.lease,
    )
    return Report("not settled: the lease expired and another worker took the batch over")


def _log_given_up(buffer: Buffer, lease: Lease, kinds: Mapping[Kind, int], **why: str) -> None:
    source, label = buffer.source, label_of(kinds)
    dead_log.add(source.name, source.batch_name(lease.id), lease.count, label=label, **why)


def _about(buffer: Buffer, lease: Lease) -> dict[str, Any]:
    """Return the arguments about the batch that every signal has."""
    return {
        "sender": buffer.source.name,
        "batch": buffer.source.batch_name(lease.id),
        "messages": lease.count,
        "bytes": lease.size,
    }
