"""The ledger: what the producers were told, against what the endpoint received."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from chaos.books import Books
from chaos.calls import Calls
from chaos.director import Story, Volley, balances
from chaos.faults import FOUND, WORK, Fault
from chaos.faults.disk import FullDisk
from chaos.faults.endpoint import WITHIN
from chaos.poison import Poisoned
from chaos.settings import PROCESSES
from chaos.stage import Stage
from chaos.tasks import Tasks, p95

_STALE = "taken over by another worker"
_EARLY = "before its Retry-After had passed"
_UNEXPECTED = re.compile(r"Task (\S+?)\[\S+ raised unexpected: (\w+)")


@dataclass
class Account:
    """A volley's part in the messages that were sent twice.

    Attributes:
        again: Messages of batches that were accepted a second time, from the volley's
            beginning until the next one's.
        per_worker: How many a worker that ends may leave in doubt.
        unanswered: Messages that the endpoint accepted then, while the worker could not know.
        explained: How many may have been posted again because of it, at the most.
    """

    volley: Volley
    per_worker: int
    again: int = 0
    unanswered: int = 0

    @property
    def explained(self) -> int:
        doubtful = sum(injected.effect.doubtful for injected in self.volley.faults)
        return doubtful + self.volley.deaths * self.per_worker + self.unanswered


@dataclass
class Ledger:
    """The figures of a run.

    Attributes:
        books: What the producers wrote down.
        story: What happened.
        accounts: The volleys, each with what it had posted again.
        received: How often the endpoint accepted each messageId.
        stored: How many copies of each messageId there were in different batches, or
            within one: how often Redis stored it.
        violations: What broke Segment's limits.
        early: Requests before a Retry-After had passed.
        stale: Settlements that were refused to a stale holder.
        failures: Task failures in the workers' logs that were not retries.
        strays: Keys left behind by batches that were settled.
        notes: What happened that nobody ordered.
        tasks: What became of the application's own tasks.
        calls: Where calls had to go on.
        poisoned: What became of messages that the endpoint refused.
        batch: The greatest number of messages in a request.
        disk: What calls spill to.
    """

    books: Books
    story: Story
    accounts: list[Account]
    received: Counter[str]
    stored: Counter[str]
    violations: list[str]
    early: list[str]
    stale: int
    failures: Counter[str]
    strays: list[bytes]
    notes: list[str]
    tasks: Tasks
    calls: Calls
    poisoned: Poisoned
    batch: int
    disk: str

    @classmethod
    def draw_up(cls, stage: Stage, story: Story) -> Ledger:
        """Read all the books, once nothing runs any more but Redis."""
        logs = stage.crew.logs()
        requests = [request for request in stage.server.requests if request.accepted]
        books = Books.read(stage.folder)
        return cls(
            books=books,
            story=story,
            accounts=_accounts(story.volleys, requests, PROCESSES * stage.load.batch),
            received=stage.server.received,
            stored=_copies(request.message_ids for request in requests),
            violations=[v for v in stage.server.violations if _EARLY not in v],
            early=[v for v in stage.server.violations if _EARLY in v],
            stale=logs.count(_STALE),
            failures=Counter(" ".join(found) for found in _UNEXPECTED.findall(logs)),
            strays=stage.stray_keys(),
            notes=stage.notes,
            tasks=Tasks.draw_up(stage, story),
            calls=Calls.draw_up(books.calls, story, stage.forgotten),
            poisoned=Poisoned.draw_up(stage.poison, stage.dead_ids()),
            batch=stage.load.batch,
            disk="a disk of its own" if stage.disk else "a file with a bound",
        )

    @property
    def lost(self) -> set[str]:
        return self.books.accepted - set(self.received)

    @property
    def unknown(self) -> set[str]:
        """What was received although no call returned, nor raised in doubt."""
        return set(self.received) - self.books.accepted - self.ambiguous

    @property
    def admitted(self) -> set[str]:
        """What was received although its call was refused: part of what is unknown."""
        return set(self.received) & self.books.refused

    @property
    def ambiguous(self) -> set[str]:
        """What was received of calls that raised and never returned."""
        return set(self.received) & self.books.raised - self.books.accepted

    @property
    def conserved(self) -> bool:
        return not self.story.unbalanced and balances(self.story.end)

    @property
    def duplicates(self) -> int:
        return self.received.total() - len(self.received)

    @property
    def posted_again(self) -> int:
        """Duplicates that were the same batch, accepted more than once."""
        return self.received.total() - self.stored.total()

    @property
    def stored_again(self) -> tuple[int, int]:
        """Duplicates that Redis held twice: of calls that raised, and of calls that did not."""
        twice = Counter({i: n - 1 for i, n in self.stored.items() if n > 1})
        repeated = sum(n for i, n in twice.items() if i in self.books.raised)
        return repeated, twice.total() - repeated

    @property
    def resendable(self) -> int:
        """How many messages of calls that did not raise may be stored again, at the most.

        Those that were spilled while Redis did not say whether it had them, and parts of the
        spilled whose append was cut off.
        """
        parts = sum(injected.effect.spilled for injected in self.story.faults)
        deaths = sum(volley.deaths for volley in self.story.volleys)
        return self.books.unknown + parts + deaths * self.batch

    @property
    def unexplained(self) -> list[Account]:
        """The volleys in which more was posted again than their faults explain."""
        return [account for account in self.accounts if account.again > account.explained]

    @property
    def slow(self) -> list[Volley]:
        """The volleys that were recovered from too late, or never."""
        volleys = [v for v in self.story.volleys if v.ended is not None]
        return [volley for volley in volleys if not volley.in_time]

    @property
    def ok(self) -> bool:
        return not (
            self.lost
            or self.unknown
            or not self.conserved
            or self.violations
            or self.unexplained
            or self.slow
            or self.strays
            or self.stored_again[1] > self.resendable
            or any(self.problems.values())
        )

    @property
    def kinds(self) -> set[Fault]:
        """The kinds of fault that were done."""
        return {injected.fault for injected in self.story.faults}

    @property
    def problems(self) -> dict[str, list[str]]:
        """What breaks a rule of the other parts, by rule."""
        return {**self.poisoned.problems, **self.tasks.problems, **self.calls.problems}

    def as_markdown(self) -> str:
        lines = [f"**{'passed' if self.ok else 'FAILED'}**", ""]
        lines += _table(("figure", "value"), self._figures())
        lines += ["", *_table(_PER_FAULT, self._faults())]
        for title, found in (
            (
                "Recovered late",
                [f"{v.recovered} s, allowed {v.allowed:.1f}: {v.names}" for v in self.slow],
            ),
            (
                "Posted again unexplained",
                [f"{a.again} of {a.explained}: {a.volley.names}" for a in self.unexplained],
            ),
            ("Lost", sorted(self.lost)),
            ("Unknown", sorted(self.unknown)),
            ("Violations", self.violations),
            ("Unbalanced", self.story.unbalanced),
            ("Stray keys", self.strays),
            *self.problems.items(),
            ("Notes", self.notes),
        ):
            if found:
                lines += ["", f"{title}, the first of {len(found):,}:", ""]
                lines += [f"- `{each}`" for each in found[:10]]
        return "\n".join(lines) + "\n"

    def _figures(self) -> Iterator[tuple[str, Any]]:
        books, end = self.books, self.story.end
        repeated, resent = self.stored_again
        yield "accepted calls' messages", len(books.accepted)
        yield "received, distinct", len(self.received)
        yield "lost", len(self.lost)
        yield "unknown", len(self.unknown)
        yield "received of calls that only raised", len(self.ambiguous)
        yield "refused by a full buffer or disk, calls' messages", len(books.refused)
        yield "… received all the same", len(self.admitted)
        yield from self.poisoned.figures()
        yield "violations of Segment's limits", len(self.violations)
        yield "conservation at every look", "holds" if self.conserved else "BROKEN"
        yield "stats: accepted / delivered", f"{end.accepted:,} / {end.delivered.messages:,}"
        yield "the endpoint's batches hold", self.stored.total()
        yield "stats: retries / takeovers", f"{end.retries:,} / {end.takeovers:,}"
        yield "duplicates", self.duplicates
        yield "… batches posted again", self.posted_again
        yield "… at most, by the faults", sum(account.explained for account in self.accounts)
        yield "… volleys with more than theirs", len(self.unexplained)
        yield "… stored again after the call raised", repeated
        yield "… stored again within one call, or from the disk", resent
        yield "… at most, by what was spilled or cut off", self.resendable
        yield "stale settlements that were refused", self.stale
        yield "requests before a Retry-After had passed", len(self.early)
        yield "errors of calls", _listed(books.errors)
        yield "slowest call that returned", f"{books.slowest.get('returned', 0):.2f} s"
        yield "slowest call that raised", f"{books.slowest.get('raised', 0):.2f} s"
        yield "tasks that failed", _listed(self.failures)
        yield "oldest message seen waiting", f"{self.story.oldest:.1f} s"
        yield "most bytes saved by packing a backlog", self.story.saved
        yield "faults / volleys", f"{len(self.story.faults):,} / {len(self.story.volleys):,}"
        recovered = [volley.recovered or 0 for volley in self.story.volleys]
        slowness = [volley.slowness for volley in self.story.volleys]
        longest = f"{max(recovered, default=0):.1f} s"
        yield "longest recovery", f"{longest}, allowed are {FOUND + WORK:g} s from when it is open"
        yield "… beside a refused message", f"{WITHIN:g} s from when it is open"
        yield (
            "… more on a slow machine: slowness, mean / max",
            (f"{sum(slowness) / max(len(slowness), 1):.1f} / {max(slowness, default=1):.1f}"),
        )
        yield "drained after the last fault", f"{self.story.drained:.1f} s"
        yield f"times that {self.disk} was filled by calls", self._disks_filled
        yield from self.calls.figures()
        yield from self.tasks.figures()

    @property
    def _disks_filled(self) -> int:
        courses = [injected.effect.course for injected in self.story.faults]
        return sum(isinstance(c, FullDisk) and c.full_at is not None for c in courses)

    def _faults(self) -> Iterator[tuple[Any, ...]]:
        """A row for each kind of fault that came alone, and for volleys of several."""
        by_name: dict[str, list[Account]] = defaultdict(list)
        for account in self.accounts:
            faults = account.volley.faults
            by_name[
                faults[0].fault.name if len(faults) == 1 else f"~ {len(faults)} at once"
            ].append(account)
        for name, accounts in sorted(by_name.items()):
            recovered = [a.volley.recovered for a in accounts if a.volley.recovered is not None]
            yield (
                name.removeprefix("~ "),
                len(accounts),
                f"{sum(recovered) / max(len(recovered), 1):.1f}",
                f"{max(recovered, default=0):.1f}",
                f"{max(a.volley.closed for a in accounts):.1f}",
                sum(a.again for a in accounts),
                sum(a.explained for a in accounts),
                *self._waits(accounts),
            )

    def _waits(self, accounts: list[Account]) -> tuple[str, str]:
        """Return the 95th percentile of the tasks' waits in some volleys, and the longest."""
        waits = self.tasks.waits_in(*(account.volley.names for account in accounts))
        return (f"{p95(waits):.2f}", f"{waits[-1]:.2f}") if waits else ("-", "-")


_PER_FAULT = (
    *("fault", "times", "recovery, mean s", "max s", "of it closed, max s"),
    *("messages posted again", "at most", "tasks' wait, p95 s", "max s"),
)


def _accounts(volleys: list[Volley], requests: list[Any], per_worker: int) -> list[Account]:
    accounts = [Account(volley, per_worker) for volley in volleys]
    starts = [volley.began for volley in volleys]
    seen: set[tuple[str, ...]] = set()
    for request in sorted(requests, key=lambda request: request.at):
        account = accounts[max(bisect_right(starts, request.at) - 1, 0)]
        size = len(request.message_ids)
        account.again += size if request.message_ids in seen else 0
        account.unanswered += size if _in_doubt(request) else 0
        seen.add(request.message_ids)
    return accounts


def _copies(batches: Iterable[tuple[str, ...]]) -> Counter[str]:
    """Count messageIds over different batches: one posted again keeps all of its ids."""
    copies: Counter[str] = Counter()
    for ids in set(batches):
        copies.update(ids)
    return copies


def _in_doubt(request) -> bool:
    return request.status is None or request.reply == "late"


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name}: {n:,}" for name, n in counts.most_common()) or "none"


def _table(head: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    yield " | ".join(("", *head, "")).strip()
    yield "|".join(("", "---", *["---:"] * (len(head) - 1), ""))
    for row in rows:
        cells = [f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row]
        yield " | ".join(("", *cells, "")).strip()
