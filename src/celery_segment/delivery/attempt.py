"""One attempt at one batch: begin, post, settle."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from secrets import token_hex
from typing import Any, NamedTuple

from celery_segment.buffer import (
    Buffer,
    Closed,
    DeadLettersFull,
    Gone,
    Lease,
    LeasedElsewhere,
    Settled,
    Stale,
)
from celery_segment.delivery import outcome, transport
from celery_segment.delivery.request import build
from celery_segment.errors import BufferUnavailable
from celery_segment.signals import batch_delivered, batch_failed, batch_retried
from celery_segment.text import counted
from celery_segment.tracing import span_of_delivery

__all__ = ["Report", "attempt_delivery"]

logger = logging.getLogger("celery_segment")

#: Failures in a row that close a source, and its first and longest pause in seconds.
BREAKER = (5, 1.0, 60.0)
#: Seconds between attempts to write an outcome down while Redis is away.
SETTLE_AGAIN = 0.25
#: The pauses of a source whose configuration is refused.
REFUSED = (1, 5.0, 300.0)


@dataclass(frozen=True, slots=True)
class Report:
    """What became of an attempt.

    Attributes:
        text: In plain words, for Flower.
        retry_in: Seconds until the next attempt, when there is one.
        settled: What has to be called, where something has to be.
        goes_on: Whether the batch was settled here, and another may follow.
        buried: Whether the batch was given up.
    """

    text: str
    retry_in: float | None = None
    settled: Settled | None = None
    goes_on: bool = False
    buried: bool = False


class _Posted(NamedTuple):
    """What a request came to; ``status`` is what it is counted under, "" where none was made."""

    decision: outcome.Decision
    status: str
    seconds: float


def attempt_delivery(buffer: Buffer, batch_id: str) -> Report:
    """Post a batch once and settle it by the outcome.

    A batch that is not this process' to post is left alone, and said to be so.
    """
    held = buffer.begin(batch_id, token_hex(8))
    if isinstance(held, Gone):
        return Report("nothing to do: settled already, or waiting again")
    if isinstance(held, LeasedElsewhere):
        return Report("nothing to do: another worker is at it")
    if isinstance(held, Closed):
        until = "until it is resumed" if held.seconds is None else f"for {held.seconds:.1f} s"
        return Report(f"put back: the source is closed {until}")
    size = {"messages": held.messages, "size": held.bytes}
    traces = partial(buffer.traces, held)
    with span_of_delivery(buffer.source.name, held.id, traces, **size) as answered:
        posted = _post(buffer, held)
        report = _settle_once(buffer, held, posted)
        delivered = isinstance(posted.decision, outcome.Delivered)
        answered(posted.status, "" if delivered else report.text)
        return report


def _settle_once(buffer: Buffer, held: Lease, posted: _Posted) -> Report:
    patience = buffer.source.lease / 2 - posted.seconds
    try:
        return _patiently(lambda: _settle(buffer, held, posted), patience)
    except Stale:
        logger.warning(
            "%s: batch %s took longer than its lease of %g s and was taken over by another worker",
            buffer.source.name,
            held.id,
            buffer.source.lease,
        )
        return Report("nothing settled: the lease had expired and another worker took over")


def _patiently(settle: Callable[[], Report], seconds: float) -> Report:
    """Settle, waiting for a Redis that is away for a moment.

    The request was made: an outcome that is not written down is a batch sent twice.
    """
    deadline = time.monotonic() + seconds
    away = False
    while True:
        try:
            return settle()
        except BufferUnavailable:
            if time.monotonic() >= deadline:
                raise
            away = True
        except Stale:
            if not away:
                raise
            # The first was carried out, and its reply lost; or another took over.
            return Report("settled already, while Redis was away", goes_on=True)
        time.sleep(SETTLE_AGAIN)


def _post(buffer: Buffer, held: Lease) -> _Posted:
    source = buffer.source
    if source.write_key is None:
        refused = outcome.Refused(
            f"source {source.name!r} has no write key in this worker's configuration; set"
            " segment_write_key, SEGMENT_WRITE_KEY or its entry in segment_sources"
        )
        return _Posted(refused, "", 0.0)
    started = time.monotonic()
    now = datetime.now(timezone.utc)
    request = build(source, source.write_key, held.body, held.requests, now)
    result = transport.post(request, source)
    status = str(result.status) if isinstance(result, outcome.Answer) else result.kind
    decision = outcome.decide(
        result,
        source,
        messages=held.messages,
        attempts=held.attempts,
        age=held.age,
        now=datetime.now(timezone.utc),
    )
    return _Posted(decision, status, time.monotonic() - started)


def _settle(buffer: Buffer, held: Lease, posted: _Posted) -> Report:
    decision, answer, took = posted
    match decision:
        case outcome.Delivered(status):
            settled = buffer.ack(held, answer)
            batch_delivered.send(**_about(buffer, held), status=status, seconds=took)
            many = counted(held.messages, "message")
            text = f"delivered {many} in {took * 1000:,.0f} ms: {status}"
            return Report(text, settled=settled, goes_on=True)
        case outcome.Retry(wait, cause, asked):
            what = "asked" if asked else "failure"
            return _retry(buffer, held, answer, what, wait, cause, BREAKER)
        case outcome.Refused(cause):
            return _retry(buffer, held, answer, "refused", 0.0, cause, REFUSED)
        case outcome.Split(cause):
            buffer.split(held, answer)
            return Report(f"split {held.messages:,} messages in two: {cause}", goes_on=True)
        case outcome.Bury():
            return _bury(buffer, held, answer, decision)


def _bury(buffer: Buffer, held: Lease, answer: str, decision: outcome.Bury) -> Report:
    cause, source = decision.cause, buffer.source
    try:
        settled = buffer.bury(held, cause, decision.text, answer, answered=decision.answered)
    except DeadLettersFull:
        size = f"{source.max_dead_bytes / 1e6:,.0f} MB"
        full = f"dead letters are full ({size}): replay, purge or export them"
        return _retry(buffer, held, answer, "refused", 0.0, f"{full}; this one: {cause}", REFUSED)
    messages = counted(held.messages, "message")
    logger.error("%s: batch %s, %s, is a dead letter: %s", source.name, held.id, messages, cause)
    batch_failed.send(**_about(buffer, held), cause=cause)
    text = f"dead letter, {messages}: {cause}"
    return Report(text, settled=settled, goes_on=True, buried=True)


def _retry(
    buffer: Buffer,
    held: Lease,
    answer: str,
    what: str,
    wait: float,
    cause: str,
    breaker: tuple[int, float, float],
) -> Report:
    wait, trips = buffer.retry(held, what, wait, cause, answer, breaker=breaker)
    batch_retried.send(**_about(buffer, held), cause=cause, wait=wait)
    name = buffer.source.name
    if trips:
        # Once per pause, not once per batch.
        logger.warning("%s: closed for %.0f s, nothing is lost: %s", name, wait, cause)
    else:
        logger.info("%s: batch %s again in %.1f s: %s", name, held.id, wait, cause)
    return Report(cause, retry_in=wait)


def _about(buffer: Buffer, held: Lease) -> dict[str, Any]:
    """What every signal tells of a batch."""
    return {
        "sender": buffer.source.name,
        "batch": held.id,
        "messages": held.messages,
        "bytes": held.bytes,
    }
