"""Log what is wrong with calls, once for each place in the program that makes them."""

from __future__ import annotations

import logging
import sys

from celery_segment.aio.bridge import frame_before

__all__ = ["log_once", "place"]

logger = logging.getLogger("celery_segment")

#: Packages whose code stands between a call and the line of the program that makes it.
_BETWEEN = ("celery_segment", "celery", "kombu", "contextlib")
#: Places and kinds that are remembered as logged; beyond them, no more is logged.
_MOST = 1_000

_logged: set[tuple[str, str]] = set()


def log_once(level: int, call: str, problem: str) -> str:
    """Log what is wrong with a call, and the line that makes it; once for each line and problem.

    Returns:
        The text, logged or not: "track at shop.py:12 is dropped: ...".
    """
    where = place()
    text = f"{call} at {where} {problem}"
    if (where, problem) not in _logged and len(_logged) < _MOST:
        _logged.add((where, problem))
        logger.log(level, "%s", text)
    return text


def place() -> str:
    """Return the file and line of the program that makes the call."""
    frame = sys._getframe(1)  # noqa: SLF001 - Python's documented way
    while (before := frame_before(frame)) is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package not in _BETWEEN:
            break
        frame = before
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
