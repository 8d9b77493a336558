"""The demo's live view: a table in a terminal, plain lines elsewhere."""

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

from celery_segment.buffer import Snapshot
from celery_segment.errors import SegmentError
from celery_segment.operations.source import Analytics
from celery_segment.testing import SegmentServer

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["View"]

#: Seconds between two tables, between two plain lines, and over which rates are taken.
REFRESH, LINE, WINDOW = 0.25, 2.0, 3.0
WIDTH = 76


class View:
    """Shows the figures from a thread of its own, for the length of a ``with`` block.

    Attributes:
        phase: What the demo is doing, in a few words.
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
        # The main thread meets the same error, and reports it.
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
        """Return messages accepted and delivered per second, of late."""
        (first, old), (last, new) = self._past[0], self._past[-1]
        seconds = max(last - first, 0.001)
        return (new.accepted - old.accepted) / seconds, (new.delivered - old.delivered) / seconds

    def _panel(self, now: float, s: Snapshot) -> Panel:
        table = Table.grid(padding=(0, 2))
        table.add_column(style="cyan", no_wrap=True, width=10)
        table.add_column(style="bold", justify="right", no_wrap=True, width=12)
        table.add_column(style="dim", no_wrap=True, width=WIDTH - 32)
        accepted, delivered = self._rates()
        received, requests = len(self._server.received), len(self._server.requests)
        table.add_row("accepted", f"{s.accepted:,}", f"{accepted:,.0f}/s")
        table.add_row("buffered", f"{s.buffered:,}", f"{s.buffered_bytes:,} bytes")
        table.add_row("ready", f"{s.ready:,}", f"in {s.ready_batches:,} batches")
        table.add_row("in flight", f"{s.inflight:,}", f"in {s.inflight_batches:,} batches")
        table.add_row("delivered", f"{s.delivered:,}", f"{delivered:,.0f}/s")
        table.add_row("retried", f"{s.retries:,}", "attempts that failed")
        table.add_row("endpoint", f"{received:,}", f"received in {requests:,} requests")
        table.add_row("oldest", f"{s.oldest:.1f} s", "since the oldest waiting call")
        word, _, why = _gate(s).partition(": ")
        # An answer's text is no markup.
        state = Text(word, style="green" if word == "open" else "yellow")
        table.add_row("gate", state, Text(why, overflow="ellipsis"))
        title = f"celery-segment  {now - self._began:.0f} s"
        return Panel(table, title=title, subtitle=self.phase, width=WIDTH, padding=(1, 2))

    def _line(self, now: float, s: Snapshot) -> str:
        return (
            f"{now - self._began:.0f} s, {self.phase}: accepted {s.accepted:,}"
            f" ({self._rates()[0]:,.0f}/s), buffered {s.buffered:,},"
            f" ready {s.ready_batches:,} and in flight {s.inflight_batches:,} batches,"
            f" delivered {s.delivered:,}, retried {s.retries:,},"
            f" requests {len(self._server.requests):,}, oldest {s.oldest:.1f} s, gate {_gate(s)}"
        )


def _gate(s: Snapshot) -> str:
    """Return the gate's state, and after a colon why it is closed."""
    if not s.closed:
        return s.gate
    return f"shut {s.closed:.1f} s: {s.gate}"
