"""Run a ``SegmentServer`` on its own: ``python -m celery_segment.testing --port 8765``.

It prints its address, one line per request, and the totals when it is ended by SIGINT or
SIGTERM. It keeps every messageId in memory to count duplicates.
"""

from __future__ import annotations

import argparse
import signal
import sys
from typing import TYPE_CHECKING

from celery_segment.testing.server import SegmentServer
from celery_segment.text import counted

if TYPE_CHECKING:
    from celery_segment.testing.server import Received

_ENDINGS = {signal.SIGINT, signal.SIGTERM}


def main() -> int:
    """Serve until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m celery_segment.testing",
        description="A local endpoint that stands in for Segment's /v1/batch.",
    )
    parser.add_argument(
        "--port", type=int, default=8765, help="port to listen on; 0 for any free port (8765)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    arguments = parser.parse_args()

    # Block the signals before the first thread starts, so that only sigwait receives them.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
    server = SegmentServer(arguments.port, record="ids", host=arguments.host, on_request=_report)
    try:
        server.start()
    except OSError as error:
        parser.error(f"cannot listen on {arguments.host}:{arguments.port}: {error.strerror}")
    _print(server.url)
    signal.sigwait(_ENDINGS)
    server.stop()
    _print(
        f"{counted(len(server.requests), 'request')},"
        f" {counted(server.received.total(), 'message')} accepted,"
        f" {counted(server.duplicates, 'duplicate')},"
        f" {counted(len(server.violations), 'violation')}"
    )
    return 0


def _report(received: Received) -> None:
    status = received.status or "none"
    line = f"{status} {received.reply}: {counted(len(received.message_ids), 'message')}"
    line += f", {counted(received.bytes, 'byte')}, retry {received.retry_count}"
    _print("; ".join((line, *received.violations)))


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
