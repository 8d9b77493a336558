"""The demo's live view: a table in a terminal, otherwise plain lines."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from celery_segment import Analytics, Snapshot
from celery_segment.errors import SegmentError
from celery_segment.testing import SegmentServer

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["View"]

#: Seconds between two tables, seconds between two plain lines, and seconds over which the rates
#: are averaged.
REFRESH, LINE, WINDOW = 0.25, 2.0, 3.0
WIDTH = 76


class View:
    """A thread that shows the figures during a ``with`` block.

    Attributes:
        phase: What the demo is doing, in a word.
    """

    def __init__(self, console: Console, analytics: Analytics, server: SegmentServer) -> None:
        self.phase = ""
        self._console = console
        self._analytics = analytics
        self._server = server
        self._began = time.monotonic()
        self._past = deque([(self._began, analytics.stats())])
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="view", daemon=True)
        lively = console.is_terminal and not console.is_dumb_terminal
        self._live = Live(console=console, auto_refresh=False) if lively else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        if self._live:
            self._live.stop()

    def _run(self) -> None:
        while not self._ended.wait(REFRESH if self._live else LINE):
            self._show()
        self._show()

    def _show(self) -> None:
        # The main thread gets the same error and reports it.
        with suppress(SegmentError):
            now, snapshot = time.monotonic(), self._analytics.stats()
            self._past.append((now, snapshot))
            while now - self._past[0][0] > WINDOW:
                self._past.popleft()
            if self._live:
                self._live.update(self._panel(now, snapshot), refresh=True)
            else:
                self._console.print(Text(self._line(now, snapshot)), soft_wrap=True)

    def _rates(self) -> tuple[float, float]:
        """Return the recent rates of accepted and delivered messages, per second."""
        (first, old), (last, new) = self._past[0], self._past[-1]
        seconds = max(last - first, 0.001)
        return (new.accepted - old.accepted) / seconds, (
            new.delivered.messages - old.delivered.messages
        ) / seconds

    def _panel(self, now: float, s: Snapshot) -> Panel:
        table = Table.grid(padding=(0, 2))
        table.add_column(style="cyan", no_wrap=True, width=10)
        table.add_column(style="bold", justify="right", no_wrap=True, width=12)
        table.add_column(style="dim", no_wrap=True, width=WIDTH - 32)
        accepted, delivered = self._rates()
        received, requests = len(self._server.received), len(self._server.requests)
        table.add_row("accepted", f"{s.accepted:,}", f"{accepted:,.0f}/s")
        table.add_row("buffered", f"{s.buffered.messages:,}", f"{s.buffered.bytes:,} bytes")
        table.add_row("ready", f"{s.ready.messages:,}", f"in {s.ready.batches:,} batches")
        table.add_row("in flight", f"{s.inflight.messages:,}", f"in {s.inflight.batches:,} batches")
        table.add_row("delivered", f"{s.delivered.messages:,}", f"{delivered:,.0f}/s")
        table.add_row("retried", f"{s.retries:,}", "attempts that failed")
        table.add_row("endpoint", f"{received:,}", f"received in {requests:,} requests")
        table.add_row("oldest", f"{s.oldest:.1f} s", "since the oldest waiting call")
        # The reason may contain a response's text, which must not be parsed as markup.
        state = Text(s.gate.state, style="green" if s.gate.state == "open" else "yellow")
        why = f"for {s.gate.seconds:.1f} s: {s.gate.reason}" if s.gate.seconds else ""
        table.add_row("gate", state, Text(why, overflow="ellipsis"))
        title = f"celery-segment  {now - self._began:.0f} s"
        return Panel(table, title=title, subtitle=self.phase, width=WIDTH, padding=(1, 2))

    def _line(self, now: float, s: Snapshot) -> str:
        return (
            f"{now - self._began:.0f} s, {self.phase}: accepted {s.accepted:,}"
            f" ({self._rates()[0]:,.0f}/s), buffered {s.buffered.messages:,},"
            f" ready {s.ready.batches:,} and in flight {s.inflight.batches:,} batches,"
            f" delivered {s.delivered.messages:,}, retried {s.retries:,},"
            f" requests {len(self._server.requests):,}, oldest {s.oldest:.1f} s, gate {s.gate}"
        )
