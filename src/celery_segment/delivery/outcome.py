"""What an answer means for a batch: a decision, as a value. No I/O.

The status table is that of Segment's own libraries (analytics-python 2.4:
retried are 408, 410, 429, 460 and 5xx but 501 and 505), with two changes that
lose nothing: a refused batch is split until the bad message stands alone, and
an answer that blames the configuration closes the source instead of dropping.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Literal

from celery_segment.config import Source

__all__ = [
    "Answer",
    "Bury",
    "Decision",
    "Delivered",
    "Failure",
    "Refused",
    "Retry",
    "Split",
    "backoff",
    "decide",
    "retry_after",
]

RETRYABLE = frozenset({408, 410, 429, 460})
NOT_IMPLEMENTED = frozenset({501, 505})
BAD_DATA = frozenset({400, 413, 422})

#: The waits of Segment's libraries: 0, 0.5, 1, 2, 4 … s with up to a tenth on top.
BACKOFF_FIRST = 0.5
BACKOFF_CAP = 60.0
JITTER = 0.1
#: How much of an answer's text is kept with a dead letter, in characters.
TEXT = 200
#: No Retry-After is honoured beyond this; also the longest that a task message may
#: wait in a Celery broker without being delivered twice.
RETRY_AFTER_CAP = 300.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the endpoint answered. ``text`` is the start of its body."""

    status: int
    headers: Mapping[str, str]
    text: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """There was no answer: a timeout, TLS, or whatever else befalls on the network."""

    cause: str
    kind: Literal["timeout", "tls", "network"] = "network"


@dataclass(frozen=True, slots=True)
class Delivered:
    """Settle the batch."""

    status: int


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after ``wait`` seconds.

    ``asked``: the endpoint named the wait; it binds all workers, and the
    attempt does not count.
    """

    wait: float
    cause: str
    asked: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """The configuration is wrong, not the data: close the source, keep the batch."""

    cause: str


@dataclass(frozen=True, slots=True)
class Split:
    """The batch was refused for its content: deliver its halves."""

    cause: str


@dataclass(frozen=True, slots=True)
class Bury:
    """Give the batch up.

    ``answered``: by a working endpoint, which refuses the content. ``text`` is
    what it said, for the dead letter alone: it may quote the message, and so
    belongs in no log and no dashboard.
    """

    cause: str
    answered: bool
    text: str = ""


Decision = Delivered | Retry | Refused | Split | Bury


def decide(  # noqa: PLR0911 - a table of outcomes
    result: Answer | Failure,
    source: Source,
    *,
    messages: int,
    attempts: int,
    age: float,
    now: datetime,
) -> Decision:
    """Return what to do with a batch.

    Args:
        result: The endpoint's answer, or why there is none.
        source: Its retry limits.
        messages: How many the batch holds.
        attempts: Counted failures before this one.
        age: Seconds since the batch's first request.
        now: For a Retry-After given as a date.
    """
    if isinstance(result, Failure):
        return _again(result.cause, source, attempts, age)
    status = result.status
    cause = _describe(status)
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Delivered(status)
    if status in RETRYABLE or (status // 100 == 5 and status not in NOT_IMPLEMENTED):  # noqa: PLR2004
        asked = retry_after(result.headers, now)
        if asked is not None:
            return Retry(asked, f"{cause}, Retry-After {asked:g} s", asked=True)
        return _again(cause, source, attempts, age)
    if status in BAD_DATA:
        if messages > 1:
            return Split(cause)
        return Bury(cause, answered=True, text=" ".join(result.text.split())[:TEXT])
    return Refused(cause + _MENDS.get(status, _MEND_ANY))


def _again(cause: str, source: Source, attempts: int, age: float) -> Retry | Bury:
    if attempts >= source.max_retries and age >= source.retry_for:
        tried = f"{attempts + 1} attempts in {age:,.0f} s"
        return Bury(f"{cause}; given up after {tried}", answered=False)
    return Retry(backoff(attempts), cause)


def backoff(attempts: int) -> float:
    """Return the wait in seconds before the next attempt, after so many counted failures."""
    if attempts == 0:
        return 0.0
    wait = min(BACKOFF_FIRST * 2.0 ** min(attempts - 1, 16), BACKOFF_CAP / (1 + JITTER))
    return wait * (1 + random.uniform(0, JITTER))  # noqa: S311 - spreads retries, hides nothing


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds that a Retry-After asks for, capped; None without a usable one.

    Both forms of RFC 9110, section 10.2.3: seconds, or a date. One that asks for
    no wait is none: its retries would be neither counted nor spaced.
    """
    value = headers.get("Retry-After", "").strip()
    seconds = float(value) if value.isdecimal() else _seconds_until(value, now)
    return min(seconds, RETRY_AFTER_CAP) if seconds > 0 else None


def _seconds_until(date: str, now: datetime) -> float:
    """Return the seconds until an HTTP date; 0 when it is none."""
    try:
        until = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return 0.0
    if until.tzinfo is None:
        until = until.replace(tzinfo=timezone.utc)
    return (until - now).total_seconds()


def _describe(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


_MENDS = {
    401: "; check the source's write key in the workers' configuration",
    403: "; check the source's write key in the workers' configuration",
    404: "; check segment_host",
}
_MEND_ANY = "; check segment_host: Segment does not answer so"
