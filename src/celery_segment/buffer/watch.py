"""Ask a Redis that did not answer in time again and again, so that no caller waits for it.

A thread does this, for as long as it lasts: callers fail at once meanwhile, and find out within
half a second that Redis is back. Where threads do not run, as under uWSGI without
``enable-threads``, one caller a second tries.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from threading import Thread

from celery_segment.buffer.connection import Connection
from celery_segment.buffer.connections import Connections

__all__ = ["watch"]

#: Seconds between two questions, for which one waits at most, and after which a connection that is
#: refused is no wait.
EVERY, LONGEST, QUICK = 0.3, 0.2, 0.1


def watch(own: Connections, connect: Callable[[float], Connection], timeout: float) -> None:
    """Have one thread ask until Redis is heard, by it or by a caller.

    Args:
        own: The connections of this process, which rest.
        connect: Connects, within so many seconds for each wait.
        timeout: The greatest number of these seconds.
    """
    if own.watching.acquire(blocking=False):
        arguments = (own, connect, timeout)
        thread = Thread(target=_watch, args=arguments, name="segment-watch", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the process ends, or may have no further thread
            own.watching.release()


def _watch(own: Connections, connect: Callable[[float], Connection], timeout: float) -> None:
    while own.is_resting:
        began = time.monotonic()
        if _is_heard(connect, min(timeout, LONGEST)):
            own.end_rest()
        else:
            time.sleep(max(began + EVERY - time.monotonic(), 0))
    own.watching.release()
    if own.is_resting:  # since a moment ago, when this thread was there still
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
