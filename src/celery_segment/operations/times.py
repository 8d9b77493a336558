"""Read a time as people give it."""

from __future__ import annotations

import re
import time
from datetime import datetime

__all__ = ["time_of"]

_AGE = re.compile(r"(\d{1,9})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def time_of(text: str) -> float:
    """Return an ISO 8601 time, local without a zone, or an age, in seconds since the epoch.

    Raises:
        ValueError: It is neither.
    """
    if age := _AGE.fullmatch(text):
        return time.time() - int(age[1]) * _SECONDS[age[2]]
    try:
        # Before Python 3.11, fromisoformat does not accept the Z of UTC.
        return datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text)).timestamp()
    except (ValueError, OverflowError):
        problem = "is neither a time such as 2026-11-23T07:00Z nor an age such as 2h, 30m or 7d"
        raise ValueError(f"{text!r} {problem}") from None
