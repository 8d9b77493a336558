"""How long to wait before the next attempt: as the endpoint asks, or by the failures so far."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

__all__ = ["backoff", "rate_limit_reset", "retry_after"]

#: Backoff of Segment's libraries: 0, 0.5, 1, 2, 4 … s, plus up to a tenth of jitter.
BACKOFF_FIRST = 0.5
BACKOFF_CAP = 60.0
JITTER = 0.1
#: Maximum Retry-After that is respected, in seconds. It also limits how long a task message waits
#: in the broker, which delivers it a second time after its visibility timeout.
RETRY_AFTER_CAP = 300.0
#: An X-RateLimit-Reset above this is a time, not a duration: seconds since the epoch.
UNIX_TIME = 1e9


def backoff(attempts: int) -> float:
    """Return the seconds to wait before the next attempt, after this many counted failures."""
    if attempts == 0:
        return 0.0
    wait = min(BACKOFF_FIRST * 2.0 ** min(attempts - 1, 16), BACKOFF_CAP / (1 + JITTER))
    return wait * (1 + random.uniform(0, JITTER))  # noqa: S311 - jitter, not a secret


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the wait that a Retry-After header requests, in seconds.

    Both forms of RFC 9110, section 10.2.3, are supported: seconds and a date. A wait of zero
    is ignored: such retries would follow each other without a pause, and would not count
    towards the retry limits.

    Returns:
        At most ``RETRY_AFTER_CAP``; None if there is no header, or no usable value in it.
    """
    value = headers.get("Retry-After", "").strip()
    seconds = float(value) if value.isdecimal() else _seconds_until(value, now)
    return min(seconds, RETRY_AFTER_CAP) if seconds > 0 else None


def rate_limit_reset(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the wait that an X-RateLimit-Reset header requests, in seconds.

    Segment's Python library reads it as the seconds to wait. Others send the Unix time at
    which the limit ends: so a value above 10⁹, which is no wait, is read as a time.

    Returns:
        At most ``RETRY_AFTER_CAP``; None if there is no header, or no usable value in it.
    """
    value = headers.get("X-RateLimit-Reset", "").strip()
    seconds = float(value) if value.isdecimal() else 0.0
    if seconds > UNIX_TIME:
        seconds -= now.timestamp()
    return min(seconds, RETRY_AFTER_CAP) if seconds > 0 else None


def _seconds_until(date: str, now: datetime) -> float:
    """Return the seconds until an HTTP date; 0 if the text is not a date."""
    try:
        until = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return 0.0
    if until.tzinfo is None:
        until = until.replace(tzinfo=timezone.utc)
    return (until - now).total_seconds()
