"""``python -m celery_segment.demo``: starts everything, tracks, settles, balances."""

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
from celery_segment.demo.app import app
from celery_segment.demo.events import stream
from celery_segment.demo.failures import Failures
from celery_segment.demo.ledger import Ledger, balance
from celery_segment.demo.processes import Child, ChildError, flower, forget_environment, worker
from celery_segment.demo.view import View
from celery_segment.errors import SegmentError
from celery_segment.testing import EmbeddedRedis, SegmentServer

SEED = 2010
#: Seconds for what remains at the end, and between two looks at the workers meanwhile.
FLUSH, LOOK = 60.0, 2.0
#: Seconds around a Retry-After in which a request was under way already.
UNDER_WAY = 0.5
#: The shell's status of a process that Ctrl-C has ended.
INTERRUPTED = 130


class Interrupts:
    """Ctrl-C and its kin: the first asks for the end, the second ends at once."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.asked = False

    def catch(self) -> None:
        """Take the signals over."""
        for number in self.SIGNALS:
            # Under nohup the terminal's end is not the demo's.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._note)

    def _note(self, *_: Any) -> None:
        if not self.asked:
            self.asked = True
            return
        # Nothing may disturb what now ends the children.
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt


@dataclass(frozen=True)
class Stage:
    """All that runs, ready for the first call."""

    server: SegmentServer
    workers: list[Child]
    flower: str
    folder: Path

    def check(self) -> None:
        """Raise ChildError when a worker has died."""
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
        console.print(f"the demo ends: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("ended at once")
        return INTERRUPTED
    return 0 if ledger.balanced else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m celery_segment.demo",
        description="Events through Celery to an endpoint that fails, and a ledger at the end.",
    )
    parser.add_argument("--seconds", type=_positive, help="end by itself; else at Ctrl-C")
    parser.add_argument("--rate", type=_positive, default=200.0, help="events per second (200)")
    parser.add_argument("--workers", type=int, choices=range(1, 33), default=1, metavar="N",
                        help="Celery workers, of two processes each (1)")  # fmt: skip
    return parser.parse_args()


def _positive(text: str) -> float:
    if not 0 < (value := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def _start(stack: ExitStack, workers: int) -> Stage:
    """Start everything; the stack ends it, Redis after all that uses it."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="segment-demo-")))
    redis = stack.enter_context(EmbeddedRedis(folder / "redis", password=token_hex(16)))
    key, login = token_hex(16), f"demo:{token_hex(4)}"
    server = SegmentServer(write_keys={key}, record="ids", in_flight_grace=UNDER_WAY)
    stack.enter_context(server)
    server.rule(Failures(SEED))
    settings = {"broker_url": redis.url, "segment_host": server.url}
    app.conf.update(settings)
    stack.callback(app.close)
    children = [worker(number + 1, settings, key, folder) for number in range(workers)]
    for child in children:
        stack.enter_context(child)
    for child in children:
        child.wait_for(r"worker\d+@demo ready\.")
    # Flower asks the workers about themselves as it starts.
    web = flower(settings, login, folder)
    if web:
        stack.enter_context(web)
    return Stage(server, children, _flower_address(web, login), folder)


def _flower_address(web: Child | None, login: str) -> str:
    """Return the address with its login, or why there is none: the demo goes on without."""
    if web is None:
        return "not installed (pip install 'celery-segment[flower]')"
    try:
        return web.wait_for(r"http://127\.0\.0\.1:\d+").replace("//", f"//{login}@")
    except ChildError as error:
        return f"not running: {error}"


def _introduce(console: Console, stage: Stage, arguments: argparse.Namespace) -> None:
    text = (
        f"{arguments.rate:g} events per second, through Celery, to an endpoint that fails one"
        f" request in ten\n"
        f"  Flower    {stage.flower}\n"
        f"  endpoint  {stage.server.url}\n"
        f"  logs      {stage.folder}\n"
        "Ctrl-C ends with a ledger, a second one at once\n"
    )
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _run(
    console: Console, stage: Stage, arguments: argparse.Namespace, interrupts: Interrupts
) -> Ledger:
    analytics = Analytics(app=app)
    accepted: set[str] = set()
    with View(console, analytics, stage.server) as view:
        view.phase = "tracking"
        beats = _beats(arguments.rate, arguments.seconds, interrupts)
        for event, _ in zip(stream(SEED), beats, strict=False):
            stage.check()
            accepted.add(event.call.delay(**event.arguments).id)
        view.phase = "settling"
        stage.server.restore()
        remaining = _flush(analytics, stage)
    return balance(accepted, stage.server, analytics.stats(), remaining)


def _beats(rate: float, seconds: float | None, interrupts: Interrupts) -> Iterator[None]:
    """Yield ``rate`` times a second, until the time is over or Ctrl-C."""
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


def _flush(analytics: Analytics, stage: Stage) -> int:
    """Wait for what remains, as long as there are workers to deliver it."""
    deadline = time.monotonic() + FLUSH
    while remaining := analytics.flush(timeout=min(LOOK, max(deadline - time.monotonic(), 0))):
        stage.check()
        if time.monotonic() >= deadline:
            break
    return remaining


if __name__ == "__main__":
    sys.exit(main())
