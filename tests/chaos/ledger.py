"""The ledger: what the producers were told, against what the endpoint received."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos.director import Injected, Story, balances
from chaos.stage import Stage

_STALE = "taken over by another worker"
_EARLY = "before its Retry-After had passed"
_UNEXPECTED = re.compile(r"Task (\S+?)\[\S+ raised unexpected: (\w+)")


@dataclass
class Books:
    """What the producers wrote down.

    Attributes:
        attempted: messageIds of calls that began.
        accepted: Of those that returned.
        raised: Of those that raised at least once.
        errors: How often a call raised, by error.
        slowest: The longest call that returned, and that raised, in seconds.
    """

    attempted: set[str] = field(default_factory=set)
    accepted: set[str] = field(default_factory=set)
    raised: set[str] = field(default_factory=set)
    errors: Counter[str] = field(default_factory=Counter)
    slowest: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Books:
        books = cls()
        for path in sorted(folder.glob("producer-*.book")):
            for line in path.read_text().splitlines():
                mark, message_id, *error = line.split(" ", 2)
                if mark == "!":
                    books.errors.update(error)
                sets = {"?": books.attempted, "+": books.accepted, "!": books.raised}
                sets[mark].add(message_id)
        for path in folder.glob("producer-*.json"):
            for outcome, seconds in json.loads(path.read_text()).items():
                books.slowest[outcome] = max(books.slowest.get(outcome, 0.0), seconds)
        return books


@dataclass
class Ledger:
    """The figures of a run.

    Attributes:
        books: What the producers wrote down.
        story: What happened.
        received: How often the endpoint accepted each messageId.
        stored: How many copies of each messageId there were in different batches, or
            within one: how often Redis stored it.
        unanswered: Messages that the endpoint accepted while the worker could not know.
        violations: What broke Segment's limits.
        early: Requests before a Retry-After had passed.
        stale: Settlements that were refused to a stale holder.
        failures: Task failures in the workers' logs that were not retries.
        strays: Keys left behind by batches that were settled.
        notes: What happened that nobody ordered.
    """

    books: Books
    story: Story
    received: Counter[str]
    stored: Counter[str]
    unanswered: int
    violations: list[str]
    early: list[str]
    stale: int
    failures: Counter[str]
    strays: list[bytes]
    notes: list[str]

    @classmethod
    def draw_up(cls, stage: Stage, story: Story) -> Ledger:
        """Read all the books, once nothing runs any more but Redis."""
        logs = stage.worker_logs()
        requests = [request for request in stage.server.requests if request.accepted]
        return cls(
            books=Books.read(stage.folder),
            story=story,
            received=stage.server.received,
            stored=_copies(request.message_ids for request in requests),
            unanswered=sum(len(r.message_ids) for r in requests if _in_doubt(r)),
            violations=[v for v in stage.server.violations if _EARLY not in v],
            early=[v for v in stage.server.violations if _EARLY in v],
            stale=logs.count(_STALE),
            failures=Counter(" ".join(found) for found in _UNEXPECTED.findall(logs)),
            strays=stage.stray_keys(),
            notes=stage.notes,
        )

    @property
    def lost(self) -> set[str]:
        return self.books.accepted - set(self.received)

    @property
    def unknown(self) -> set[str]:
        """What was received although no call returned, nor raised in doubt."""
        return set(self.received) - self.books.accepted - self.ambiguous

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
    def explained(self) -> int:
        """How many messages the faults may have had posted again."""
        faults = [f for f in self.story.faults if f.fault.doubts]
        return self.unanswered + sum(f.inflight + f.effect.doubtful for f in faults)

    @property
    def ok(self) -> bool:
        return not (
            self.lost
            or self.unknown
            or self.story.end.dead
            or not self.conserved
            or self.violations
        )

    def as_markdown(self) -> str:
        lines = [f"**{'passed' if self.ok else 'FAILED'}**", ""]
        lines += _table(("figure", "value"), self._figures())
        lines += ["", *_table(("fault", "times", "recovery, mean s", "max s"), self._recoveries())]
        for title, found in (
            ("Lost", sorted(self.lost)),
            ("Unknown", sorted(self.unknown)),
            ("Violations", self.violations),
            ("Unbalanced", self.story.unbalanced),
            ("Stray keys", self.strays),
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
        yield "dead", end.dead
        yield "violations of Segment's limits", len(self.violations)
        yield "conservation at every look", "holds" if self.conserved else "BROKEN"
        yield "stats: accepted / delivered", f"{end.accepted:,} / {end.delivered:,}"
        yield "the endpoint's batches hold", self.stored.total()
        yield "stats: retries / takeovers", f"{end.retries:,} / {end.takeovers:,}"
        yield "duplicates", self.duplicates
        yield "… batches posted again", self.posted_again
        yield "… at most, by the faults", self.explained
        yield "… stored again after the call raised", repeated
        yield "… stored again within one call", resent
        yield "stale settlements refused", self.stale
        yield "requests before a Retry-After had passed", len(self.early)
        yield "errors of calls", _listed(books.errors)
        yield "slowest call that returned", f"{books.slowest.get('returned', 0):.2f} s"
        yield "slowest call that raised", f"{books.slowest.get('raised', 0):.2f} s"
        yield "tasks that failed", _listed(self.failures)
        yield "oldest message seen waiting", f"{self.story.oldest:.1f} s"
        yield "drained after the last fault", f"{self.story.drained:.1f} s"

    def _recoveries(self) -> Iterator[tuple[str, Any, str, str]]:
        by_name: dict[str, list[Injected]] = defaultdict(list)
        for injected in self.story.faults:
            by_name[injected.fault.name].append(injected)
        for name, times in sorted(by_name.items()):
            seconds = [f.recovered for f in times if f.recovered is not None]
            if len(seconds) < len(times):
                yield name, len(times), "never", "never"
            else:
                mean = sum(seconds) / len(seconds)
                yield name, len(times), f"{mean:.1f}", f"{max(seconds):.1f}"


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
