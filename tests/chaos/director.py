"""The schedule: which fault is done when, what was in flight then, and when it was over."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from celery_segment.errors import SegmentBufferError
from chaos.faults import FAULTS, Effect, Fault
from chaos.stage import LEASE, TICK, Stage

#: Seconds between two faults.
PAUSE = (1.0, 3.0)
#: Seconds between two looks at the figures.
LOOK = 0.1
#: Seconds after the last fault within which all must be delivered.
BOUND = LEASE + TICK + 60


@dataclass
class Injected:
    """A fault that was done.

    Attributes:
        fault: Its kind.
        at: When, by ``time.monotonic()``.
        effect: What there is to undo.
        inflight: Messages in flight at that moment.
        ended: When it was undone.
        mark: The last batch that was sealed when it was undone.
        recovered: Seconds from its end until all up to the mark was settled.
    """

    fault: Fault
    at: float
    effect: Effect
    inflight: int
    ended: float | None = None
    mark: int | None = None
    recovered: float | None = None


@dataclass
class Story:
    """What happened.

    Attributes:
        faults: Every fault, in order.
        drained: Seconds from the healing of all until nothing remained, or the bound.
        oldest: The greatest age of a waiting message that was seen.
        unbalanced: Snapshots whose sums did not hold.
        end: The last snapshot.
    """

    faults: list[Injected] = field(default_factory=list)
    drained: float = 0.0
    oldest: float = 0.0
    unbalanced: list[object] = field(default_factory=list)
    end: object = None


class Director:
    def __init__(self, stage: Stage, seed: int) -> None:
        self._stage = stage
        self._chance = Random(seed)
        self._deck = self._deal()
        self._inflight = 0
        self.story = Story()

    def run(self, seconds: float) -> Story:
        """Inject faults for some time, heal them, and wait until all is delivered."""
        end = time.monotonic() + seconds
        due = time.monotonic() + PAUSE[0]
        while time.monotonic() < end:
            self._undo(time.monotonic())
            if time.monotonic() >= due:
                self._inject()
                due = time.monotonic() + self._chance.uniform(*PAUSE)
            self._look()
            time.sleep(LOOK)
        self._undo(float("inf"))
        self._stage.heal_links()
        self._stage.stop_producers()
        self._drain()
        return self.story

    # ------------------------------------------------------------ faults

    def _deal(self) -> Iterator[Fault]:
        """Give faults in random order, each kind equally often."""
        while True:
            yield from self._chance.sample(FAULTS, len(FAULTS))

    def _inject(self) -> None:
        self._look()
        for fault in self._deck:
            at = time.monotonic()
            effect = fault.inject(self._stage, self._chance)
            if effect is not None:
                break
        self.story.faults.append(Injected(fault, at, effect, self._inflight))
        sys.stderr.write(f"{time.strftime('%X')} {fault.name}\n")

    def _undo(self, now: float) -> None:
        for injected in self.story.faults:
            if injected.ended is None and injected.at + injected.effect.seconds <= now:
                injected.effect.undo()
                injected.ended = time.monotonic()

    # ------------------------------------------------------------ figures

    def _look(self) -> None:
        self._stage.look_after_workers()
        snapshot = self._stage.snapshot()
        if snapshot is None:
            return
        self._inflight = snapshot.inflight
        self.story.oldest = max(self.story.oldest, snapshot.oldest)
        self.story.end = snapshot
        if not balances(snapshot):
            self.story.unbalanced.append(snapshot)
        for injected in self.story.faults:
            if injected.ended is not None and injected.recovered is None:
                self._see_recovery(injected)

    def _see_recovery(self, injected: Injected) -> None:
        stage = self._stage
        try:
            if injected.mark is None:
                injected.mark = stage.sequence()
            if stage.buffer.remaining(injected.mark) == 0:
                injected.recovered = time.monotonic() - injected.ended
        except SegmentBufferError:  # the next look will tell
            return

    def _drain(self) -> None:
        began = time.monotonic()
        while time.monotonic() - began < BOUND:
            remain = self._stage.analytics.flush(timeout=LOOK)
            self._look()
            if not remain and self.story.end.accepted == self.story.end.delivered:
                break
        self.story.drained = time.monotonic() - began


def balances(s) -> bool:
    """Return whether what was accepted is what waits and what was settled."""
    return s.accepted == s.buffered + s.ready + s.inflight + s.delivered + s.dead + s.purged
