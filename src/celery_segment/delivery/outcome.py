"""Decide what to do with a batch, given the endpoint's response. No I/O.

The statuses are classified as in Segment's own libraries (analytics-python 2.4), which retry
408, 410, 429, 460, and 5xx except 501 and 505. They drop a batch on any other error. Here,
two kinds of errors are treated differently, so that no valid message is lost:

- When the endpoint refuses a batch for its content (400, 413, 422), the batch is split in
  halves until the invalid message is alone. Only that message becomes a dead letter.
- When the response points to a wrong configuration (401, 404, a redirect, …), the source is
  closed and the batch is kept.

A response says so of one batch only. Where other batches are delivered meanwhile, it is about
what this batch holds: a firewall, say, that refuses a message. Such a batch is split until the
message is alone, whatever the status, and holds up no other. But a 401 may be about this worker's
write key, while others deliver with another: it is the batch's fault only where the key has been
accepted since the batch was refused before.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus

from celery_segment.config import DEFAULT_SOURCE, Source
from celery_segment.delivery.answer import Answer, Failure, Unauthorized
from celery_segment.delivery.pause import backoff, rate_limit_reset, retry_after
from celery_segment.text import http_phrase, one_line

__all__ = [
    "Bury",
    "Decision",
    "Delivered",
    "KeyState",
    "Past",
    "Refused",
    "Retry",
    "Split",
    "WrongKey",
    "decide",
    "is_retryable",
    "refuses_key",
]

RETRYABLE = frozenset({408, 410, 429, 460})
NOT_IMPLEMENTED = frozenset({501, 505})
BAD_DATA = frozenset({400, 413, 422})

#: Seconds for which a worker whose write key is refused leaves the source to other workers, while
#: they deliver.
WRONG_KEY = 30.0

#: From so many counted failures on, a batch is suspected to be what fails.
SUSPECT = 2
#: How often a batch is tried again whose write key was refused, while others are delivered, until
#: it is known whether the key is good: seconds between these, and their number, before that closes
#: the source. Soon, since the batch's other half may be delivered meanwhile, which shows it.
#: A batch that is alone is split before: one half may show whether it is the other's fault.
DOUBT_AGAIN, DOUBTS, DOUBTS_ALONE = 0.5, 20, 3

#: A code of an error in an answer's JSON. Only known ones: any other text may quote a message.
_CODE = re.compile(r'"code"\s*:\s*"(invalid_request)"')

#: Maximum length of the response's text that is stored with a dead letter, in characters.
TEXT = 200


@dataclass(frozen=True, slots=True)
class Delivered:
    """Acknowledge the batch: the endpoint has accepted it."""

    status: int


@dataclass(frozen=True, slots=True)
class Retry:
    """Retry the batch later.

    Attributes:
        wait: Seconds until the next attempt.
        cause: Why the attempt failed.
        asked: Whether the endpoint requested the wait (Retry-After), or no request could be
            authorized. All workers respect such a wait, and the attempt does not count towards
            the retry limits.
        own: Whether the failure is the batch's own, since others are delivered.
        doubtful: Whether it may be the batch's fault, or that of the write key.
    """

    wait: float
    cause: str
    asked: bool = False
    own: bool = False
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Close the source and keep the batch: the configuration is wrong, not the data.

    Attributes:
        cause: Why.
        key: Whether it is the write key that is refused (401), or what gets a token.
    """

    cause: str
    key: bool = False


@dataclass(frozen=True, slots=True)
class WrongKey:
    """Leave the batch to other workers: they deliver, while this one is not authorized.

    Attributes:
        cause: Why.
        seconds: How long to leave the source to them.
    """

    cause: str
    seconds: float = WRONG_KEY


@dataclass(frozen=True, slots=True)
class Split:
    """Split the batch in two halves: the endpoint refused it for its content.

    Attributes:
        cause: Why.
        answered: Whether the endpoint works, as far as is known.
    """

    cause: str
    answered: bool = True


@dataclass(frozen=True, slots=True)
class Past:
    """What is known of a batch before an attempt.

    Attributes:
        count: The number of its messages.
        attempts: The number of failures that were counted.
        age: Seconds since its first request.
        refusals: How often it was answered as if the configuration were wrong.
        others_delivered: Whether another batch was delivered since this one failed first.
        alone: Whether the source has no other batch that could be tried.
    """

    count: int
    attempts: int = 0
    age: float = 0.0
    refusals: int = 0
    others_delivered: bool = False
    alone: bool = False

    @property
    def shows(self) -> bool:
        """Whether splitting the batch shows what it is that fails: the batch, or the endpoint."""
        return self.count > 1 and (self.others_delivered or self.alone)


@dataclass(frozen=True, slots=True)
class KeyState:
    """What is known of a write key that was refused (401).

    Attributes:
        is_cleared: Whether it was accepted after the batch had been refused with it before.
        is_the_only_one_refused: Whether others deliver while it is refused.
    """

    is_cleared: bool = False
    is_the_only_one_refused: bool = False


@dataclass(frozen=True, slots=True)
class Bury:
    """Give the batch up: make it a dead letter.

    Attributes:
        cause: Why.
        answered: Whether the endpoint works and refused the content.
        text: The start of the response, stored only with the dead letter. It may quote the
            message, so it must not get into logs or dashboards.
        group: The cause without what differs from batch to batch, by which dead letters are
            grouped; "" where it is the cause itself.
    """

    cause: str
    answered: bool
    text: str = field(default="", repr=False)
    group: str = ""

    @property
    def code(self) -> str:
        """The code of the error in the answer, where it is a known one of Segment's; else ""."""
        match = _CODE.search(self.text)
        return match[1] if match else ""

    def details(self, source: Source, batch: str) -> str:
        """Return what the page of a dead letter's task shows besides: the code, and what to do."""
        code = f"; Segment answers {self.code}" if self.code else ""
        named = "" if source.name == DEFAULT_SOURCE else f" --source {source.name}"
        dead = "celery -A proj segment dead"
        return f"{code}; next: {dead} show {batch}{named}, then {dead} replay {batch}{named}"


Decision = Delivered | Retry | Refused | WrongKey | Split | Bury


def decide(  # noqa: PLR0911 - a table of outcomes
    result: Answer | Failure | Unauthorized,
    source: Source,
    past: Past,
    key: KeyState,
    now: datetime,
) -> Decision:
    """Return what to do with a batch.

    Args:
        result: The endpoint's response, or the error, or why no request was made.
        source: The source, for its retry limits.
        past: What is known of the batch.
        key: What is known of this worker's write key, where it was refused.
        now: The current time, for a Retry-After that is a date.
    """
    if not isinstance(result, Answer):
        return _unanswered(result, source, past, key)
    status = result.status
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Delivered(status)
    cause = f"{status} {http_phrase(status)}".rstrip()
    if is_retryable(status):
        asked, name = retry_after(result.headers, now), "Retry-After"
        if asked is None and status == HTTPStatus.TOO_MANY_REQUESTS:
            asked, name = rate_limit_reset(result.headers, now), "X-RateLimit-Reset"
        if asked is not None:
            return Retry(asked, f"{cause}, {name} {asked:g} s", asked=True)
        return _again(cause, source, past)
    by_key = refuses_key(result)
    about_data = key.is_cleared if by_key else past.others_delivered
    if status in BAD_DATA or about_data:
        text = one_line(result.text)[:TEXT]
        return Split(cause) if past.count > 1 else Bury(cause, answered=True, text=text)
    if by_key and (doubt := _doubted(cause, source, past, key)):
        return doubt
    if past.count > 1 and past.alone and past.refusals:
        return Split(cause, answered=False)
    return Refused(cause + _hint(status, source), key=by_key)


def _doubted(cause: str, source: Source, past: Past, key: KeyState) -> WrongKey | Retry | None:
    """Decide where others are delivered and the key may be at fault; None where they are not."""
    if key.is_the_only_one_refused:
        what = "write key" if source.oauth is None else "token"
        return WrongKey(f"this worker's {what} is refused (401), while others deliver")
    doubts = DOUBTS_ALONE if past.count > 1 and past.alone else DOUBTS
    if past.others_delivered and past.refusals < doubts:
        return Retry(DOUBT_AGAIN, cause, doubtful=True)
    return None


def refuses_key(result: Answer | Failure | Unauthorized) -> bool:
    """Return whether a response refuses the write key, or seems to; or there is no token."""
    if isinstance(result, Answer):
        return result.status == HTTPStatus.UNAUTHORIZED
    return isinstance(result, Unauthorized)


def _unanswered(
    result: Failure | Unauthorized, source: Source, past: Past, key: KeyState
) -> Decision:
    if isinstance(result, Unauthorized):
        # It says nothing of the batch, which is neither split nor given up for it.
        if key.is_the_only_one_refused:
            seconds = WRONG_KEY if result.wait is None else result.wait
            return WrongKey(f"{result.cause}; others deliver", seconds)
        if result.wait is None:
            return Refused(result.cause, key=True)
        return Retry(result.wait, result.cause, asked=True)
    if result.kind == "configuration":
        return Refused(result.cause + _ROUTE_HINT)
    return _again(result.cause, source, past)


def is_retryable(status: int) -> bool:
    """Return whether a status is that of a failure that may pass by itself."""
    return status in RETRYABLE or (status // 100 == 5 and status not in NOT_IMPLEMENTED)  # noqa: PLR2004


def _again(cause: str, source: Source, past: Past) -> Retry | Split | Bury:
    if past.attempts >= SUSPECT and past.shows:
        return Split(cause, answered=past.others_delivered)
    if past.attempts >= source.max_retries and past.age >= source.retry_for:
        tried = f"{past.attempts + 1} attempts in {past.age:,.0f} s"
        group = f"{cause}; given up"
        return Bury(f"{group} after {tried}", answered=False, group=group)
    return Retry(backoff(past.attempts), cause, own=past.others_delivered)


_PROXY_HINT = "; check segment_proxies, or the proxies of the environment"
_ROUTE_HINT = "; check segment_proxies, segment_ca_bundle and the proxies of the environment"
_HINTS = {404: "; check segment_host", 407: _PROXY_HINT}
_OTHER_HINT = "; check segment_host: Segment does not return this status"


def _hint(status: int, source: Source) -> str:
    if status not in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return _HINTS.get(status, _OTHER_HINT)
    what = "the source's write key"
    if source.oauth is not None:
        what = f"segment_oauth, to which source its application belongs, and {what}"
    return f"; check {what} in the workers' configuration"
