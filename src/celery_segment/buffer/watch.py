"""Ask a Redis that did not answer in time again and again, so that no caller waits for it.

A thread does this, or a task of the event loop, for as long as it lasts: callers fail at once
meanwhile, and find out within half a second that Redis is back. Where threads do not run, as under
uWSGI without ``enable-threads``, one caller a second tries.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing

from celery_segment.buffer.connection import Connection
from celery_segment.buffer.connections import Connections

__all__ = ["watch"]

#: Seconds between two questions, for which one waits at most, and after which a connection that is
#: refused is no wait.
EVERY, LONGEST, QUICK = 0.3, 0.2, 0.1


def watch(own: Connections, connect: Callable[[float], Connection], timeout: float) -> None:
    """Ask until Redis is heard, beside the callers, of whom one may hear it first.

    Args:
        own: The connections of this process, or event loop, which rest.
        connect: Connects, within so many seconds for each wait.
        timeout: The greatest number of these seconds.
    """
    if own.watching.acquire(blocking=False):
        try:
            own.waits.start("segment-watch", _watch, own, connect, timeout)
        except RuntimeError:
            own.watching.release()


def _watch(own: Connections, connect: Callable[[float], Connection], timeout: float) -> None:
    try:
        while own.is_resting:
            began = time.monotonic()
            if _is_heard(connect, min(timeout, LONGEST)):
                own.end_rest()
            else:
                own.waits.sleep(max(began + EVERY - time.monotonic(), 0))
    finally:
        own.watching.release()
    if own.is_resting:  # since a moment ago, when this one was there still
        watch(own, connect, timeout)


def _is_heard(connect: Callable[[float], Connection], seconds: float) -> bool:
    """Return whether Redis answers on a new connection, or refuses it at once."""
    began = time.monotonic()
    try:
        with closing(connect(seconds)) as connection:
            connection.ask()
    except Exception:  # noqa: BLE001 - of the network, or a credential provider's
        return time.monotonic() - began < QUICK
    return True
