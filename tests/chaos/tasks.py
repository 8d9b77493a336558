"""The part of the ledger that the application's own tasks have."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from chaos import application
from chaos.director import Story, Volley
from chaos.faults.endpoint import Outage
from chaos.stage import Stage

#: Seconds within which 95 of 100 tasks must begin to run, in calm and while the endpoint fails.
WAIT = 1.0
#: How many waits there must be for that to be asked.
ENOUGH = 40
#: Seconds for which a task may have waited when a fault hit it.
BEFORE = 1.0
CALM = "calm"


@dataclass
class Tasks:
    """What became of the application's own tasks.

    Attributes:
        volleys: What was done meanwhile.
        published: When Celery was asked to publish each task whose call returned.
        errors: When and with which error a call that publishes raised: the time that it
            began, the time that it raised, the error.
        runs: When each task began to run, once or more often.
        left: Tasks that the broker still has: those of killed workers.
        held: How many may be lost with a worker that ended by itself.
    """

    volleys: list[Volley]
    published: dict[str, float] = field(default_factory=dict)
    errors: list[tuple[float, float, str]] = field(default_factory=list)
    runs: dict[str, list[float]] = field(default_factory=dict)
    left: set[str] = field(default_factory=set)
    held: int = 0

    @classmethod
    def draw_up(cls, stage: Stage, story: Story) -> Tasks:
        tasks = cls(
            story.volleys,
            runs=application.runs(stage.folder),
            left=stage.broker.tasks_left(),
            held=stage.broker.held,
        )
        began = {}
        for mark, name, at, error in application.publications(stage.folder):
            if mark == "?":
                began[name] = at
            elif mark == "+":
                tasks.published[name] = began[name]
            else:
                tasks.errors.append((began[name], at, error))
        return tasks

    # ------------------------------------------------------------ none is lost

    @property
    def never_run(self) -> list[str]:
        return sorted(self.published.keys() - self.runs.keys())

    @property
    def unexplained(self) -> list[str]:
        """Tasks that never ran, and that no fault of a volley explains."""
        room = [self.explained(volley) for volley in self.volleys]
        found = []
        for name in sorted(self.never_run, key=lambda name: self.published[name]):
            at = self.published[name]
            # The last fault before it was published may have hit it, or one soon after.
            volley = next((v for v in self._near(at) if room[v]), None)
            if volley is None:
                found.append(name)
            else:
                room[volley] -= 1
        return found

    def explained(self, volley: Volley) -> int:
        """Return how many tasks a volley may have lost, at the most."""
        lost = sum(injected.effect.tasks for injected in volley.faults)
        return lost + volley.deaths * self.held

    @property
    def run_again(self) -> int:
        return sum(len(times) > 1 for times in self.runs.values())

    # ------------------------------------------------------------ none is refused or late

    @property
    def refused(self) -> Counter[str]:
        """Errors of publishing in calm, or while the endpoint alone failed."""
        return Counter(
            error
            for began, raised, error in self.errors
            if self._is_spared(began) and self._is_spared(raised)
        )

    @property
    def ended_workers(self) -> int:
        """How many workers ended by themselves while the endpoint alone failed."""
        return sum(volley.deaths for volley in self.volleys if volley.spares_the_application)

    @cached_property
    def waits(self) -> dict[str, list[float]]:
        """How long tasks waited, by the names of the volley in which they were published."""
        found = defaultdict(list)
        for name, at in self.published.items():
            if name in self.runs:
                volley = self._volley(at)
                found[volley.names if volley else CALM].append(self.runs[name][0] - at)
        return {names: sorted(waits) for names, waits in found.items()}

    def waits_in(self, *periods: str) -> list[float]:
        """Return how long tasks waited that were published in calm or in some volleys, sorted."""
        return sorted(wait for period in {*periods} for wait in self.waits.get(period, ()))

    @property
    def spared(self) -> list[str]:
        """The names of the volleys in which the endpoint alone failed."""
        return sorted({v.names for v in self.volleys if v.spares_the_application})

    @property
    def late(self) -> list[str]:
        """The periods in which the application's tasks waited for too long."""
        waits = {period: self.waits_in(period) for period in (CALM, *self.spared)}
        waits["the endpoint failing"] = self.waits_in(*self.spared)
        return [
            f"{p95(found):.2f} s: {period}"
            for period, found in waits.items()
            if len(found) >= ENOUGH and p95(found) > WAIT
        ]

    # ------------------------------------------------------------ the report

    @property
    def outages(self) -> list[Outage]:
        courses = [each.effect.course for volley in self.volleys for each in volley.faults]
        return [course for course in courses if isinstance(course, Outage)]

    @property
    def problems(self) -> dict[str, list[str]]:
        """What breaks a rule, by rule."""
        refused = [f"{error}: {count}" for error, count in self.refused.items()]
        ended = [f"{self.ended_workers}"] if self.ended_workers else []
        return {
            "Tasks that never ran, unexplained": self.unexplained,
            "Tasks that waited too long": self.late,
            "Tasks refused by the broker while the endpoint alone failed": refused,
            "Workers that ended while the endpoint alone failed": ended,
        }

    def figures(self) -> Iterator[tuple[str, Any]]:
        full = [outage for outage in self.outages if outage.full_at is not None]
        started = sum(outage.started for outage in full)
        yield "outages / … that filled the buffer", f"{len(self.outages)} / {len(full)}"
        yield "… and a worker started meanwhile", started
        yield "workers that ended by an outage", self.ended_workers
        yield "the application's tasks: published", len(self.published)
        yield "… run", len(self.published.keys() & self.runs.keys())
        yield "… run more than once", self.run_again
        yield "… never run", len(self.never_run)
        yield "… of these, with the broker still", len(self.left & {*self.never_run})
        yield "… at most, by the faults", sum(map(self.explained, self.volleys))
        yield "… never run and not explained", len(self.unexplained)
        yield "… refused by the broker", _listed(Counter(error for _, _, error in self.errors))
        yield "… while the endpoint alone failed", _listed(self.refused)
        calm, failing = self.waits_in(CALM), self.waits_in(*self.spared)
        for title, waits in (("in calm", calm), ("the endpoint failing", failing)):
            shown = f"{quantile(waits, 0.5):.3f} / {p95(waits):.3f} / {max(waits, default=0):.2f} s"
            yield f"waits of tasks, {title}: p50 / p95 / max", shown
        yield "… allowed at p95", f"{WAIT:g} s"

    # ------------------------------------------------------------ time

    @cached_property
    def _starts(self) -> list[float]:
        return [volley.began for volley in self.volleys]

    def _volley(self, at: float) -> Volley | None:
        """Return the volley of a time, until the recovery from it; None in a calm."""
        place = bisect_right(self._starts, at) - 1
        volley = self.volleys[place] if place >= 0 else None
        if volley is None or volley.calm_at is None or volley.recovered is None:
            return volley
        return volley if at <= volley.calm_at else None

    def _is_spared(self, at: float) -> bool:
        volley = self._volley(at)
        return volley is None or volley.spares_the_application

    def _near(self, at: float) -> range:
        """Return the volleys that a task may have met, by when it was published."""
        first = max(bisect_right(self._starts, at) - 1, 0)
        return range(first, bisect_right(self._starts, at + BEFORE))


def p95(waits: list[float]) -> float:
    return quantile(waits, 0.95)


def quantile(waits: list[float], share: float) -> float:
    """Return the least wait that is not below so many of them, of a sorted list."""
    return waits[math.ceil(share * len(waits)) - 1] if waits else 0.0


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name}: {n:,}" for name, n in counts.most_common()) or "none"
