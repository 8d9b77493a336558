"""Log batches that were given up by kind: an error for the first, and a summary of what follows.

Error trackers make a report of each error in the log, and one release with a bug can bury
hundreds of messages for the same reason. So batches of one kind (source, event or type, and
status) are one error at once, and one for each interval in which more came. Each batch by
itself is logged with level INFO, and has its signal and its ``segment_on_failed``.

An event's name helps to find the code that sends it. It is the one part of a message that is
logged, cut to a line of 60 characters.
"""

from __future__ import annotations

import atexit
import logging
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any, NamedTuple

import msgspec
from celery.signals import worker_process_shutdown

from celery_segment.buffer import messages_of
from celery_segment.text import counted, duration, one_line

__all__ = ["INTERVAL", "DeadLog", "dead_log", "label_of"]

logger = logging.getLogger("celery_segment")

#: Seconds between two errors about one kind.
INTERVAL = 300.0
#: Kinds of a source that are told apart: event names that vary must not bring the flood back.
MOST_KINDS = 20
#: Names of a batch's events that are logged, and the characters of each.
MOST_NAMES, NAME = 3, 60

#: The label of those beyond MOST_KINDS, and of those whose content is lost.
OTHERS = "other messages"


class _Message(msgspec.Struct):
    type: str = "message"
    event: str = ""


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
                kind = _Kind(source, "", OTHERS)
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


def label_of(body: Any) -> str:
    """Return what a batch's messages are: "track 'Order Completed'", the most frequent first.

    It is made before anything is logged: error trackers send the variables of whoever logs.

    Args:
        body: The batch's content; None where that is lost.
    """
    if body is None:
        return OTHERS
    try:
        names = Counter(map(_name, messages_of(body)))
    except Exception:  # noqa: BLE001 - whatever is in Redis instead; the batch is settled
        return OTHERS
    shown = [name for name, _ in names.most_common(MOST_NAMES)]
    more = len(names) - len(shown)
    return (", ".join(shown) or OTHERS) + (f" and {more:,} more" if more else "")


def _name(data: Any) -> str:
    try:
        message = msgspec.json.decode(data, type=_Message)
    except msgspec.DecodeError:
        return "message"
    kind, event = one_line(message.type)[:NAME], one_line(message.event)
    event = event if len(event) <= NAME else f"{event[: NAME - 1]}…"
    return f"{kind} {event!r}" if event else kind


#: That of this process.
dead_log = DeadLog()
atexit.register(dead_log.report_rest)


def _at_end(**_: Any) -> None:
    """Report before a process of a worker's pool ends, which runs nothing of ``atexit``."""
    dead_log.report_rest()


worker_process_shutdown.connect(_at_end, weak=False)
