"""Run the debugger as a program, until SIGINT or SIGTERM."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

from celery_segment.config.parsers import is_loopback
from celery_segment.errors import SegmentError
from celery_segment.testing.server import Received
from celery_segment.text import counted
from celery_segment.web import PASSWORD
from celery_segment.web.debugger.endpoint import INSTALL, Debugger

__all__ = ["describe", "run"]


_ENDINGS = {signal.SIGINT, signal.SIGTERM}


def run(make: Callable[[], Debugger], say: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM, and say the address first and the totals at the end.

    Args:
        make: Returns the debugger.
        say: Prints a line.

    Raises:
        SegmentError: The address cannot be listened on.
    """
    # Block the signals before the first thread starts, so that only sigwait receives them.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
    debugger = make()
    server = debugger.server
    try:
        server.start()
    except OSError as error:
        problem = f"cannot listen on {server.host}:{server.port}: {error.strerror}"
        raise SegmentError(problem) from None
    for line in (server.url, *_notices(debugger)):
        say(line)
    signal.sigwait(_ENDINGS)
    server.stop()
    totals = debugger.store.totals
    say(
        f"{counted(totals.requests, 'request')}, {counted(totals.accepted, 'message')} accepted,"
        f" {counted(totals.duplicates, 'duplicate')}, {counted(totals.violations, 'violation')}"
    )


def _notices(debugger: Debugger) -> Iterator[str]:
    if debugger.missing:
        yield f"without pages, since {debugger.missing} is not installed: {INSTALL}"
    elif not is_loopback(debugger.server.host) and not debugger.has_password:
        yield f"whoever reaches this address sees what arrives: set {PASSWORD}"


def describe(received: Received) -> str:
    """Return a line about a request, without payload or write key."""
    status = received.status or "none"
    line = f"{status} {received.reply}: {counted(len(received.message_ids), 'message')}"
    line += f", {counted(received.bytes, 'byte')}, retry {received.retry_count}"
    return "; ".join((line, *received.violations))
