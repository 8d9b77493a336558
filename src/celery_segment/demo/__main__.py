"""Run the demo: start all processes, track events, wait for their delivery, print the ledger."""

from __future__ import annotations

import argparse
import itertools
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

from rich.console import Console

from celery_segment import Analytics
from celery_segment.config import DEFAULT_SOURCE
from celery_segment.demo.app import app
from celery_segment.demo.events import stream
from celery_segment.demo.failures import Failures
from celery_segment.demo.ledger import Ledger, balance
from celery_segment.demo.processes import Child, ChildError, flower, forget_environment, worker
from celery_segment.demo.view import View
from celery_segment.errors import SegmentError
from celery_segment.operations.flush import Flush, wait_for
from celery_segment.runtime import runtime_of
from celery_segment.testing import EmbeddedRedis, SegmentServer
from celery_segment.web.debugger import Debugger
from celery_segment.web.debugger.endpoint import INSTALL

SEED = 2010
#: Maximum number of seconds to wait for the delivery at the end.
FLUSH = 60.0
#: Seconds after a Retry-After was sent in which another request may have been in flight already.
IN_FLIGHT_GRACE = 0.5
#: The exit status of a process that Ctrl-C has ended, by the convention of shells.
INTERRUPTED = 130


class Interrupts:
    """Handle Ctrl-C and similar signals: the first finishes the demo, the second aborts it.

    Attributes:
        asked: Whether the demo shall finish.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.asked = False

    def catch(self) -> None:
        """Install the signal handlers."""
        for number in self.SIGNALS:
            # Under nohup, the demo continues when the terminal is closed.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._note)

    def _note(self, *_: Any) -> None:
        if not self.asked:
            self.asked = True
            return
        # Further signals must not interrupt the shutdown of the children.
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt


@dataclass(frozen=True)
class Stage:
    """The running parts of the demo.

    Attributes:
        debugger: The endpoint, and its pages.
        workers: The Celery workers.
        flower: The address of Flower, or why it does not run.
        folder: The directory of the logs.
    """

    debugger: Debugger
    workers: list[Child]
    flower: str
    folder: Path

    @property
    def server(self) -> SegmentServer:
        """The endpoint."""
        return self.debugger.server

    def check(self) -> None:
        """Raise ChildError if a worker has exited."""
        for child in self.workers:
            child.check()


def main() -> int:
    """Run the demo and return its exit status."""
    arguments = _parse()
    interrupts = Interrupts()
    interrupts.catch()
    forget_environment()
    console = Console(force_terminal=sys.stdout.isatty())
    try:
        with ExitStack() as stack:
            console.print("starting Redis, the endpoint, Celery and Flower ...")
            stage = _start(stack, arguments.workers)
            _introduce(console, stage, arguments)
            ledger = _run(console, stage, arguments, interrupts)
            ledger.print(console)
    except SegmentError as error:
        console.print(f"the demo failed: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("aborted")
        return INTERRUPTED
    return 0 if ledger.balanced else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m celery_segment.demo",
        description="Deliver events to an endpoint that fails at times, and print a ledger.",
    )
    parser.add_argument("--seconds", type=_positive, help="duration; by default, until Ctrl-C")
    parser.add_argument("--rate", type=_positive, default=200.0, help="events per second (200)")
    parser.add_argument("--workers", type=int, choices=range(1, 33), default=1, metavar="N",
                        help="number of Celery workers, with two processes each (1)")  # fmt: skip
    return parser.parse_args()


def _positive(text: str) -> float:
    if not 0 < (value := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def _start(stack: ExitStack, workers: int) -> Stage:
    """Start all parts. The stack stops them in reverse order, so that Redis is the last."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="segment-demo-")))
    redis = stack.enter_context(EmbeddedRedis(folder / "redis", password=token_hex(16)))
    key, login = token_hex(16), f"demo:{token_hex(4)}"
    debugger = Debugger(
        sources={key: DEFAULT_SOURCE},
        write_keys={key},
        record="ids",
        in_flight_grace=IN_FLIGHT_GRACE,
    )
    server = stack.enter_context(debugger.server)
    server.rule(Failures(SEED))
    settings = {"broker_url": redis.url, "segment_host": server.url}
    app.conf.update(settings)
    stack.callback(app.close)
    children = [worker(number + 1, settings, key, folder) for number in range(workers)]
    for child in children:
        stack.enter_context(child)
    for child in children:
        child.wait_for(r"worker\d+@demo ready\.")
    # Flower queries the workers when it starts, so they must be ready.
    web = flower(settings, login, folder)
    if web:
        stack.enter_context(web)
    return Stage(debugger, children, _flower_address(web, login), folder)


def _flower_address(web: Child | None, login: str) -> str:
    """Return Flower's address with its login, or why it does not run. The demo does not need it."""
    if web is None:
        return "not installed (pip install 'celery-segment[flower]')"
    try:
        return web.wait_for(r"http://127\.0\.0\.1:\d+").replace("//", f"//{login}@")
    except ChildError as error:
        return f"not running: {error}"


def _introduce(console: Console, stage: Stage, arguments: argparse.Namespace) -> None:
    missing = stage.debugger.missing
    shown = f"{missing} is not installed ({INSTALL})" if missing else stage.server.url
    text = (
        f"{arguments.rate:g} events per second, to an endpoint that fails for one request in ten\n"
        f"  Flower    {stage.flower}\n"
        f"  debugger  {shown}\n"
        f"  logs      {stage.folder}\n"
        "Press Ctrl-C to finish with a ledger, and again to abort.\n"
    )
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _run(
    console: Console, stage: Stage, arguments: argparse.Namespace, interrupts: Interrupts
) -> Ledger:
    analytics = Analytics(app=app)
    accepted: set[str] = set()
    with View(console, analytics, stage.server) as view:
        view.phase = "tracking"
        ticks = _ticks(arguments.rate, arguments.seconds, interrupts)
        for event, _ in zip(stream(SEED), ticks, strict=False):
            stage.check()
            accepted.add(event.call.delay(**event.arguments).id)
        view.phase = "settling"
        stage.server.restore()
        stage.debugger.failures.clear()
        # Stop waiting if a worker has exited.
        flush = Flush(runtime_of(app), analytics.source)
        remaining = wait_for([flush], FLUSH, watch=lambda _: stage.check())
    return balance(accepted, stage.server, analytics.stats(), remaining)


def _ticks(rate: float, seconds: float | None, interrupts: Interrupts) -> Iterator[None]:
    """Yield ``rate`` times per second, until the time is over or Ctrl-C is pressed."""
    began = time.monotonic()
    for number in itertools.count():
        while True:
            passed = time.monotonic() - began
            if interrupts.asked or (seconds is not None and passed >= seconds):
                return
            if (early := number / rate - passed) <= 0:
                break
            time.sleep(min(early, 0.05))
        yield


if __name__ == "__main__":
    sys.exit(main())
