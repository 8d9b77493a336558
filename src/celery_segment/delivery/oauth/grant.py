"""Read the answer of an authorization server: a token, or what to do without one. No I/O.

The statuses are classified as in Segment's own libraries (analytics-python 2.4).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import msgspec

from celery_segment.delivery.answer import Answer, Failure
from celery_segment.delivery.outcome import is_retryable
from celery_segment.delivery.pause import rate_limit_reset, retry_after
from celery_segment.text import http_phrase, one_line

__all__ = ["Denied", "Failed", "Grant", "Granted", "Limited", "Outdated", "read", "skew_of"]

#: Seconds to wait after a 429 that does not say for how long.
LIMITED = 5.0
#: Life of a token, in seconds, if the answer does not say.
LIFE = 60.0
#: By how many seconds two clocks have to have moved apart for that to explain a refusal.
MOVED = 5.0
#: Maximum length of what the server says that is shown, in characters.
TEXT = 160

_TOKEN = re.compile(r"[\x21-\x7e]+")
_OUTDATED = re.compile(r"expired|before issued|not yet valid", re.IGNORECASE)
_HINT = "check segment_oauth: client_id, private_key, key_id, auth_server"


@dataclass(frozen=True, slots=True)
class Granted:
    """There is a token.

    Attributes:
        token: The token.
        life: The seconds for which it is valid.
    """

    token: str = field(repr=False)
    life: float


@dataclass(frozen=True, slots=True)
class Outdated:
    """The assertion was expired, or too early, by the server's clock: make another one."""

    cause: str


@dataclass(frozen=True, slots=True)
class Limited:
    """Ask again after so many seconds: the server demands it."""

    wait: float
    cause: str


@dataclass(frozen=True, slots=True)
class Denied:
    """The configuration is wrong: the key, or the address."""

    cause: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Ask again later: the failure may pass by itself."""

    cause: str


Grant = Granted | Outdated | Limited | Denied | Failed


def read(result: Answer | Failure, now: datetime, *, moved: float = 0.0) -> Grant:
    """Return what an answer means.

    Args:
        result: The response of the server, or the error.
        now: The current time, for a Retry-After that is a date.
        moved: The seconds by which the server's clock is not where it was thought to be.
    """
    if isinstance(result, Failure):
        if result.kind == "configuration":
            return Denied(f"no token: {result.cause}")
        return Failed(f"no token: {result.cause}")
    status, said = result.status, _object(result.text)
    if status == HTTPStatus.OK:
        return _granted(said)
    cause = f"no token: the authorization server answers {status} {http_phrase(status)}".rstrip()
    if is_retryable(status):
        asked = retry_after(result.headers, now)
        if asked is None and status == HTTPStatus.TOO_MANY_REQUESTS:
            asked = rate_limit_reset(result.headers, now) or LIMITED
        return Failed(cause) if asked is None else Limited(asked, cause)
    described = str(said.get("error_description") or "")
    words = ": ".join(text for text in (str(said.get("error") or ""), described) if text)
    cause += f" ({one_line(words)[:TEXT]})" if words else ""
    if abs(moved) > MOVED or _OUTDATED.search(described):
        return Outdated(f"{cause}; check the clock of this host")
    return Denied(f"{cause}; {_HINT}")


def _granted(said: Mapping[str, Any]) -> Grant:
    token, life = said.get("access_token"), said.get("expires_in", LIFE)
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        return Denied(f"no token: the authorization server answers 200 without one; {_HINT}")
    try:
        seconds = float(life)
    except (TypeError, ValueError):
        seconds = LIFE
    return Granted(token, seconds if 0 < seconds < float("inf") else LIFE)


def _object(text: str) -> Mapping[str, Any]:
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def skew_of(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return by how many seconds this host's clock is ahead of the server's, by its ``Date``."""
    try:
        date = parsedate_to_datetime(headers.get("Date", ""))
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=timezone.utc)
    return (now - date).total_seconds()
