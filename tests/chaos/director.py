"""The schedule: volleys of faults, each followed by a calm in which all must recover.

A volley is one fault, or several that overlap; a calm lasts until whatever was stored
when its volley ended is delivered. So each recovery, and each message that was sent
twice, has a volley that explains it, and every kind of fault is seen alone as well.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from random import Random

from celery_segment.errors import SegmentBufferError
from chaos import application
from chaos.faults import FOUND, WORK, Effect, Fault
from chaos.faults.workers import kill_worker
from chaos.stage import Stage

#: How many faults a volley may have: one as often as several.
SIZES = (1, 1, 1, 2, 3, 5)
#: Seconds between two faults of a volley, and between a recovery and the next volley.
PAUSE = (0.1, 1.5)
#: Seconds between two looks at the figures.
LOOK = 0.05
#: Seconds after which a recovery is not waited for any more.
LONGEST = FOUND + WORK + 120
#: Seconds within which the application's last tasks must run, at the end: those that were
#: published within as many seconds before.
LAST_TASKS = 5.0


@dataclass
class Injected:
    """A fault that was done: its kind, when (``time.monotonic()``), and what there is to undo."""

    fault: Fault
    at: float
    effect: Effect
    undone: bool = False


@dataclass
class Volley:
    """Faults that overlap, and the recovery from them.

    Attributes:
        faults: Those that were done, in order.
        began: When the first was.
        ended: When the last was undone.
        closed: For how many seconds the source was closed at that moment.
        deaths: Workers that ended by themselves meanwhile, and count as killed.
        recovered: Seconds from there until all that was stored then was settled, but for
            poison that is still retried, and the source was open.
        slowness: How many times longer than usual work took meanwhile, by the control.
        calm_at: When the application's tasks were seen to run again as well, where the broker
            was harmed.
    """

    faults: list[Injected] = field(default_factory=list)
    began: float = 0.0
    ended: float | None = None
    closed: float = 0.0
    deaths: int = 0
    recovered: float | None = None
    slowness: float = 1.0
    calm_at: float | None = None

    @property
    def names(self) -> str:
        return ", ".join(injected.fault.name for injected in self.faults)

    @property
    def spares_the_application(self) -> bool:
        """Whether the endpoint alone was at fault."""
        return all(injected.fault.spares_the_application for injected in self.faults)

    @property
    def over(self) -> float | None:
        """When it was recovered from; None if it was not."""
        return None if self.recovered is None else self.ended + self.recovered

    @property
    def in_time(self) -> bool:
        """Whether it was recovered from in time, once the source was open again."""
        return self.recovered is not None and self.recovered <= self.allowed

    @property
    def allowed(self) -> float:
        """Seconds that the recovery may take: what a machine is slowed by stretches the work."""
        work = max((injected.effect.work for injected in self.faults), default=WORK)
        return self.closed + FOUND + work * self.slowness

    @property
    def calls_from(self) -> float | None:
        """From when on calls must go on: where a fault that spares them came alone."""
        return self.faults[0].effect.calls_from if len(self.faults) == 1 else None


@dataclass
class Story:
    """What happened.

    Attributes:
        volleys: All of them, in order.
        seconds: How long there were faults.
        drained: Seconds from the end of all until nothing remained, or the bound.
        oldest: The greatest age of a waiting message that was seen.
        saved: The most bytes that a backlog was seen to take less, packed.
        unbalanced: Snapshots whose sums did not hold.
        end: The last snapshot.
    """

    volleys: list[Volley] = field(default_factory=list)
    seconds: float = 0.0
    drained: float = 0.0
    oldest: float = 0.0
    saved: int = 0
    unbalanced: list[object] = field(default_factory=list)
    end: object = None

    @property
    def faults(self) -> list[Injected]:
        return [injected for volley in self.volleys for injected in volley.faults]


class Director:
    """Does faults to the stage.

    Args:
        stage: What they are done to.
        seed: Decides on the faults and their order.
        kinds: The kinds of fault.
        first: Those of them that come before the others.
    """

    def __init__(
        self, stage: Stage, seed: int, kinds: Sequence[Fault], first: Sequence[Fault] = ()
    ) -> None:
        self._stage = stage
        self._chance = Random(seed)
        self._kinds, self._first = kinds, first
        self._alone, self._together = self._deal(), self._deal()
        self.story = Story()

    def run(self, seconds: float) -> Story:
        """Inject faults for some time, heal them, and wait until all is delivered."""
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            self._rest(self._chance.uniform(*PAUSE))
            volley = Volley(began=time.monotonic())
            self.story.volleys.append(volley)
            deaths = self._stage.crew.deaths
            self._fire(volley)
            self._recover(volley)
            volley.slowness = self._stage.control.slowness(volley.ended)
            self._await_the_application(volley)
            self._stage.store.rewrite_files()
            volley.deaths = self._stage.crew.deaths - deaths
        self.story.seconds = time.monotonic() - began
        return self.end()

    def kill_a_worker_every(self, seconds: float) -> Story:
        """Kill a worker again and again until the producers are done, and wait for delivery."""
        while self._stage.clients.present:
            volley = Volley(began=time.monotonic())
            self._inject(volley, iter([kill_worker]))
            if volley.faults:
                self.story.volleys.append(volley)
            self._rest(seconds)
        return self.end()

    def end(self) -> Story:
        """Have the producers end, and wait until all is delivered."""
        self._stage.clients.stop()
        began = time.monotonic()
        while time.monotonic() - began < LONGEST:
            try:
                self._stage.analytics.flush(timeout=LOOK)
                self._look()
                if self._stage.is_done(self.story.end):
                    break
            except SegmentBufferError:
                continue
        self.story.drained = time.monotonic() - began
        self._await_the_last_tasks()
        return self.story

    def _await_the_last_tasks(self) -> None:
        """Wait until the tasks published last have run; what was lost before will not."""
        now = time.monotonic()
        lines = application.publications(self._stage.folder)
        last = {name for mark, name, at, _ in lines if mark == "+" and at > now - LAST_TASKS}
        while last - application.runs(self._stage.folder).keys():
            if time.monotonic() > now + LAST_TASKS:
                return
            self._rest(LOOK)

    # ------------------------------------------------------------ volleys

    def _deal(self) -> Iterator[Fault]:
        """Give faults in random order, each kind equally often."""
        yield from self._chance.sample(self._first, len(self._first))
        while True:
            yield from self._chance.sample(self._kinds, len(self._kinds))

    def _fire(self, volley: Volley) -> None:
        size = self._chance.choice(SIZES)
        deck = self._alone if size == 1 else self._together
        for number in range(size):
            if number:
                self._rest(self._chance.uniform(*PAUSE))
                self._undo(volley)
            self._inject(volley, deck)
        while not all(injected.undone for injected in volley.faults):
            self._undo(volley)
            self._rest(LOOK)
        self._stage.heal()
        volley.ended = time.monotonic()

    def _inject(self, volley: Volley, deck: Iterator[Fault]) -> None:
        self._look()
        for fault in islice(deck, 2 * len(self._kinds)):
            at = time.monotonic()
            effect = fault.inject(self._stage, self._chance)
            if effect is not None:
                volley.faults.append(Injected(fault, at, effect))
                sys.stderr.write(f"{time.strftime('%X')} {fault.name}\n")
                return

    def _undo(self, volley: Volley) -> None:
        for injected in volley.faults:
            if not injected.undone and injected.effect.over(injected.at):
                with contextlib.suppress(SegmentBufferError):  # Redis is away, by another fault
                    injected.effect.undo()
                    injected.undone = True

    def _recover(self, volley: Volley) -> None:
        mark = None
        while time.monotonic() - volley.ended < LONGEST:
            try:
                if mark is None:
                    mark = self._mark(volley)
                elif self._has_recovered(mark):
                    volley.recovered = time.monotonic() - volley.ended
                    return
            except SegmentBufferError:  # Redis has only just been started, say
                pass
            self._rest(LOOK)

    def _await_the_application(self, volley: Volley) -> None:
        """Wait until Celery has connected to the broker again, where it was cut off."""
        effects = [injected.effect for injected in volley.faults]
        if any(effect.tasks or effect.cuts_broker for effect in effects):
            since = time.monotonic()
            while time.monotonic() < since + LONGEST:
                if application.is_flowing(self._stage.folder, since):
                    break
                self._rest(LOOK)
        volley.calm_at = time.monotonic()

    def _mark(self, volley: Volley) -> int | None:
        """Return the mark of what is stored now; None while something is still on the disk."""
        admin = self._stage.buffer.admin
        volley.closed = volley.closed or admin.snapshot().gate.seconds or 0.0
        return None if self._stage.spilled else admin.mark()

    def _has_recovered(self, mark: int) -> bool:
        admin = self._stage.buffer.admin
        snapshot = admin.snapshot()
        left = self._stage.poison_left(snapshot)
        return snapshot.gate.state == "open" and admin.remaining(mark) <= left

    # ------------------------------------------------------------ figures

    def _rest(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._look()
            time.sleep(min(LOOK, left))

    def _look(self) -> None:
        self._stage.crew.look()
        snapshot = self._stage.snapshot()
        if snapshot is None:
            return
        self.story.oldest = max(self.story.oldest, snapshot.oldest)
        self.story.saved = max(self.story.saved, snapshot.saved_bytes)
        self.story.end = snapshot
        if not balances(snapshot):
            self.story.unbalanced.append(snapshot)


def balances(s) -> bool:
    """Return whether what was accepted is what waits and what was settled."""
    return s.accepted == s.waiting + s.delivered.messages + s.dead.messages + s.purged
