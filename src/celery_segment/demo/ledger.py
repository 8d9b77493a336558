"""The demo's ledger: compare the accepted messages with those that the endpoint received."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from celery_segment import Snapshot
from celery_segment.testing import Received, SegmentServer

__all__ = ["Ledger", "balance"]


@dataclass(frozen=True)
class Ledger:
    """The figures at the end. They are numbers of messages unless noted otherwise.

    Attributes:
        accepted: Messages whose call returned.
        received: Distinct messages that the endpoint received.
        duplicates: Messages that the endpoint received again.
        cut_off: Messages received with a request whose response was cut off.
        lost: Accepted messages that were not received.
        unknown: Received messages that were not accepted.
        remaining: Messages that were not settled in time.
        retries: Attempts that failed.
        requests: Requests.
        sent: Messages in all requests.
        failures: The kinds of failed requests, and their numbers, as text.
        violations: Violations of Segment's format and limits.
        early: Requests before a Retry-After had passed.
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
        """Whether the endpoint received exactly the accepted messages, without violations."""
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
        yield "received", f"{self.received:,}", "distinct messages at the endpoint"
        yield "lost", f"{self.lost:,}", "accepted, not received"
        yield "unknown", f"{self.unknown:,}", "received, not accepted"
        yield "remaining", f"{self.remaining:,}", "not settled in time"
        yield (
            "duplicates",
            f"{self.duplicates:,}",
            f"{self.cut_off:,} by responses that were cut off",
        )
        yield "retries", f"{self.retries:,}", "attempts that failed"
        yield "requests", f"{self.requests:,}", self.failures or "none failed"
        yield "per request", f"{self.sent / max(self.requests, 1):,.1f}", "messages"
        yield "violations", f"{self.violations:,}", "of Segment's format and limits"
        yield "early", f"{self.early:,}", "requests before a Retry-After had passed"


def balance(accepted: set[str], server: SegmentServer, stats: Snapshot, remaining: int) -> Ledger:
    """Compare the accepted messageIds with the endpoint's records, after all traffic has ended."""
    received = set(server.received)
    # Early requests are among the violations, and differ only in the text.
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
