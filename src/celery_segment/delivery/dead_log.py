"""Log batches that were given up by kind: an error for the first, and a summary of what follows.

Error trackers make a report of each error in the log, and one release with a bug can bury
hundreds of messages for the same reason. So batches of one kind (source, event or type, and
status) are one error at once, and one for each interval in which more came. Each batch by
itself is logged with level INFO, and has its signal and its ``segment_on_failed``.

A message's kind is what ``buffer.kinds`` says, its event cut to 60 characters.
"""

from __future__ import annotations

import atexit
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any, NamedTuple

from celery.signals import worker_process_shutdown

from celery_segment.buffer import OTHER_MESSAGES, Kind
from celery_segment.text import counted, duration

__all__ = ["INTERVAL", "DeadLog", "dead_log", "label_of"]

logger = logging.getLogger("celery_segment")

#: Seconds between two errors about one kind.
INTERVAL = 300.0
#: Kinds of a source that are told apart: event names that vary must not bring the flood back.
MOST_KINDS = 20
#: Names of a batch's events that are logged, and the characters of each.
MOST_NAMES, NAME = 3, 60


class _Kind(NamedTuple):
    source: str
    status: str
    label: str


@dataclass(slots=True)
class _Told:
    """A kind that was logged: when it may be again, and what came since."""

    since: float
    cause: str
    hint: str
    messages: int = 0


class DeadLog:
    """What this process gave up.

    Args:
        interval: Seconds between two errors about one kind.
        clock: Returns the time in seconds.
    """

    def __init__(
        self, interval: float = INTERVAL, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval, self._clock = interval, clock
        self._lock = Lock()
        self._pid = os.getpid()
        self._told: dict[_Kind, _Told] = {}

    def add(
        self,
        source: str,
        batch: str,
        count: int,
        *,
        status: str,
        cause: str,
        hint: str,
        label: str,
    ) -> None:
        """Log a batch that was given up.

        Args:
            source: The source's name.
            batch: The batch's id.
            count: The number of its messages.
            status: What the metrics count the last attempt as.
            cause: Why it was given up.
            hint: What to do.
            label: What its messages are, see ``label_of``.
        """
        messages = counted(count, "message")
        logger.info("%s: batch %s, %s, was given up: %s", source, batch, messages, cause)
        with self._lock:
            self._forget_the_parents()
            self._report(self._clock() - self._interval)
            kind = _Kind(source, status, label)
            of_source = sum(each.source == source for each in self._told)
            if kind not in self._told and of_source >= MOST_KINDS:
                kind = _Kind(source, "", OTHER_MESSAGES)
            told = self._told.get(kind)
            if told is not None:
                told.messages, told.cause = told.messages + count, cause
                return
            self._told[kind] = _Told(self._clock(), cause, hint)
        _error(kind, f"{messages} given up: {cause}; {hint}")

    def report_due(self) -> None:
        """Log the summaries whose interval has passed."""
        if self._told:
            with self._lock:
                self._forget_the_parents()
                self._report(self._clock() - self._interval)

    def report_rest(self) -> None:
        """Log all summaries, as at the end of the process."""
        with self._lock:
            self._forget_the_parents()
            self._report(self._clock())
            self._told.clear()

    def _report(self, until: float) -> None:
        now = self._clock()
        for kind, told in list(self._told.items()):
            if told.since > until:
                continue
            if not told.messages:
                del self._told[kind]
                continue
            messages = counted(told.messages, "more message")
            span = duration(now - told.since)
            _error(kind, f"{messages} given up in {span}, the last: {told.cause}; {told.hint}")
            self._told[kind] = _Told(now, told.cause, told.hint)

    def _forget_the_parents(self) -> None:
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._told.clear()


def _error(kind: _Kind, text: str) -> None:
    # Formatted here: error trackers group by the text before its arguments are filled in, and
    # would take all kinds for one.
    line = f"{kind.source}: {kind.label}: {text}"
    logger.error(line)


def label_of(kinds: Mapping[Kind, int]) -> str:
    """Return what a batch's messages are: "track 'Order Completed'", the most frequent first.

    Args:
        kinds: The numbers of its messages by kind; none where they are not known.
    """
    names: Counter[str] = Counter()
    for kind, number in kinds.items():
        names[_name(kind)] += number
    shown = [name for name, _ in names.most_common(MOST_NAMES)]
    more = len(names) - len(shown)
    return (", ".join(shown) or OTHER_MESSAGES) + (f" and {more:,} more" if more else "")


def _name(kind: Kind) -> str:
    event = kind.event
    return str(kind._replace(event=event if len(event) <= NAME else f"{event[: NAME - 1]}…"))


#: That of this process.
dead_log = DeadLog()
atexit.register(dead_log.report_rest)


def _at_end(**_: Any) -> None:
    """Report before a process of a worker's pool ends, which runs nothing of ``atexit``."""
    dead_log.report_rest()


worker_process_shutdown.connect(_at_end, weak=False)
