"""Run a stand-in for Segment that shows what arrives: ``python -m celery_segment.testing``.

It prints its address, which is that of its pages as well, one line per request, and the totals
when it is ended by SIGINT or SIGTERM. It keeps what arrived within bounds, so that it may run for
ever. ``celery -A proj segment debugger`` is the same for an application, whose sources it knows.
"""

from __future__ import annotations

import argparse
import os
import sys

from celery_segment.errors import SegmentError
from celery_segment.web import PASSWORD
from celery_segment.web.debugger import Debugger
from celery_segment.web.debugger.planned import plan_check
from celery_segment.web.debugger.running import describe, run


def main() -> int:
    """Serve until SIGINT or SIGTERM."""
    parser = _parser()
    arguments = parser.parse_args()
    try:
        run(lambda: _make(arguments), _print)
    except SegmentError as error:
        parser.error(str(error))
    return 0


def _make(arguments: argparse.Namespace) -> Debugger:
    check = None if arguments.plan is None else plan_check(arguments.plan)
    return Debugger(
        arguments.port,
        arguments.host,
        host_names=arguments.host_name,
        password=os.environ.get(PASSWORD),
        check_of=lambda _: check,
        on_request=lambda received: _print(describe(received)),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m celery_segment.testing",
        description="A local endpoint that stands in for Segment's /v1/batch, and shows what"
        " arrives there at its address.",
    )
    parser.add_argument(
        "--port", type=int, default=8765, help="port to listen on; 0 for any free port (8765)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument(
        "--host-name",
        action="append",
        default=[],
        metavar="NAME",
        help="name by which a browser may ask for the pages, besides localhost; several times",
    )
    parser.add_argument(
        "--plan", metavar="FILE", help="tracking plan that all messages are compared with"
    )
    return parser


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
