"""The demo's ledger: what was accepted against what the endpoint received."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from celery_segment.buffer import Snapshot
from celery_segment.testing import Received, SegmentServer

__all__ = ["Ledger", "balance"]


@dataclass(frozen=True)
class Ledger:
    """The figures at the end; messages, unless the name says otherwise.

    ``cut_off`` were received with a request whose answer never came, ``violations``
    counts what was beyond Segment's limits or form, and ``early`` the requests before
    a Retry-After had passed.
    """

    accepted: int
    received: int
    duplicates: int
    cut_off: int
    lost: int
    unknown: int
    remaining: int
    retries: int
    requests: int
    sent: int
    failures: str
    violations: int
    early: int

    @property
    def balanced(self) -> bool:
        """Whether the endpoint has received what was accepted, within its limits."""
        return not (self.lost or self.unknown or self.remaining or self.violations)

    def print(self, console: Console) -> None:
        """Print the figures and the verdict."""
        table = Table.grid(padding=(0, 2))
        table.add_column(style="cyan", no_wrap=True)
        table.add_column(justify="right", style="bold", no_wrap=True)
        table.add_column(style="dim")
        for row in self._rows():
            table.add_row(*row)
        console.print("\n[bold]Ledger[/]", table, sep="\n")
        verdict = (
            "[green]balanced[/]: nothing was lost" if self.balanced else "[red]NOT balanced[/]"
        )
        console.print(f"{verdict}\n")

    def _rows(self) -> Iterator[tuple[str, str, str]]:
        yield "accepted", f"{self.accepted:,}", "messages whose call returned"
        yield "received", f"{self.received:,}", "different messages at the endpoint"
        yield "lost", f"{self.lost:,}", "accepted, not received"
        yield "unknown", f"{self.unknown:,}", "received, not accepted"
        yield "remaining", f"{self.remaining:,}", "not settled in time"
        yield "duplicates", f"{self.duplicates:,}", f"{self.cut_off:,} by answers that were cut off"
        yield "retries", f"{self.retries:,}", "attempts that failed"
        yield "requests", f"{self.requests:,}", self.failures or "none was made to fail"
        yield "per request", f"{self.sent / max(self.requests, 1):,.1f}", "messages"
        yield "violations", f"{self.violations:,}", "of Segment's limits and form"
        yield "early", f"{self.early:,}", "requests before a Retry-After had passed"


def balance(accepted: set[str], server: SegmentServer, stats: Snapshot, remaining: int) -> Ledger:
    """Hold the accepted messageIds against the endpoint's records, when traffic has ended."""
    received = set(server.received)
    # The endpoint tells of both in words alone.
    early = sum("Retry-After" in text for text in server.violations)
    return Ledger(
        accepted=len(accepted),
        received=len(received),
        duplicates=server.duplicates,
        cut_off=sum(len(r.message_ids) for r in server.requests if r.accepted and not r.status),
        lost=len(accepted - received),
        unknown=len(received - accepted),
        remaining=remaining,
        retries=stats.retries,
        requests=len(server.requests),
        sent=sum(len(request.message_ids) for request in server.requests),
        failures=_failures(server.requests),
        violations=len(server.violations) - early,
        early=early,
    )


def _failures(requests: list[Received]) -> str:
    kinds = Counter(
        str(request.status) if request.reply == "status" else request.reply.replace("_", " ")
        for request in requests
        if request.reply != "ok"
    )
    return ", ".join(f"{count} x {kind}" for kind, count in sorted(kinds.items()))
