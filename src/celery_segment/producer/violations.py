"""How this process' calls have violated their tracking plan, until Redis has counted it."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable
from threading import Lock

from celery_segment.buffer import OTHERS, RightsMissing, Violations
from celery_segment.errors import SegmentBufferError

__all__ = ["CountViolations", "PendingViolations"]

logger = logging.getLogger("celery_segment")

CountViolations = Callable[[list[Violations]], None]

#: Seconds between two reports: a plan that every call violates must not double the round trips.
PERIOD = 1.0
#: Kinds of violations that are told apart between two reports.
MOST = 100


class PendingViolations:
    """Violations of this process that are not counted in Redis yet, by kind.

    Attributes:
        is_reported_at_exit: Whether the process is to report what is left when it ends.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._pid = os.getpid()
        self._counts: Counter[Violations] = Counter()
        self._next = 0.0
        self._is_refusal_logged = False
        self.is_reported_at_exit = False

    def __bool__(self) -> bool:
        return bool(self._counts) and self._pid == os.getpid()

    @property
    def is_due(self) -> bool:
        """Whether to report them now."""
        return bool(self) and time.monotonic() >= self._next

    def add(self, found: Violations) -> None:
        """Add a message's violation."""
        if self._pid != os.getpid():
            # Those counted before a fork are the parent's, and so is the lock.
            self.__init__()  # type: ignore[misc]
        with self._lock:
            is_told_apart = found in self._counts or len(self._counts) < MOST
            self._counts[found if is_told_apart else OTHERS._replace(rule=found.rule)] += 1

    def report(self, count: CountViolations) -> None:
        """Count them in Redis, all in one round trip. They stay where it does not take them.

        Where Redis does not say whether it took them, they do not, as those of ``Drops``.
        """
        with self._lock:
            counts, self._counts = self._counts, Counter()
            self._next = time.monotonic() + PERIOD
        try:
            count([kind._replace(messages=number) for kind, number in counts.items()])
        except SegmentBufferError as error:
            if isinstance(error, RightsMissing) and not self._is_refusal_logged:
                # Of a process whose calls all violate the plan, and raise, nothing else says so.
                self._is_refusal_logged = True
                logger.warning("violations of the tracking plan are not counted: %s", error)
            if not error.unknown:
                with self._lock:
                    self._counts.update(counts)
