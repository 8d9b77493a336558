"""Find out, in one short round trip for all sources, which of them are due."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence

from celery_segment.buffer import Due, Topology
from celery_segment.config import Source
from celery_segment.errors import SegmentError

__all__ = ["SERVER_REST", "Ticker"]

logger = logging.getLogger("celery_segment")

#: Seconds that a round trip may take: usually, and at most where Redis is slow. The worker's
#: event loop waits with it.
PATIENCE, LONGEST = 0.2, 0.5
#: After a failure the ticker rests for so many times as long as it waited.
REST = 10
#: Seconds for which one of several servers that does not answer is left alone, so that those of
#: the others are asked without a wait.
SERVER_REST = 2.0
#: A drain follows another after this part of the tick's period at the earliest, so that the
#: ticks of several workers do not flush a source more often than those of one.
SHORTEST = 0.8
#: One of so many ticks looks how full Redis is.
LOOK = 4


class Ticker:
    """Asks a Redis which sources are due, and waits for it no longer than an event loop can afford.

    Where Redis is slow, it waits longer, and rests for longer.

    Args:
        sources: The sources' shards.
        topology: The servers of the buffer, with connections of its own.
        period: Seconds between two ticks.
        timeout: Seconds that a round trip may take in any case.
    """

    def __init__(
        self, sources: Sequence[Source], topology: Topology, period: float, timeout: float
    ) -> None:
        self._due = Due(sources, SHORTEST * period)
        self._topology = topology
        self._usual, self._longest = min(PATIENCE, timeout), min(LONGEST, timeout)
        self._patience = self._usual
        self._topology.set_timeout(self._patience)
        self._rests_until = 0.0
        self._count = 0
        # The errors that were logged, by source; "" for those of all.
        self._errors: dict[str, str] = {}

    def tick(self, *, free: bool = True, but: Collection[str] = ()) -> list[str]:
        """Return the names of the shards that are due.

        Args:
            free: Whether a delivery could begin in this worker. If not, another worker is left to
                ask, most of the time.
            but: The names of shards that are left to other workers.
        """
        if self.is_resting:
            return []
        look = self._count % LOOK == 0
        self._count += 1
        if not free and not look:
            return []
        began = time.monotonic()
        try:
            answers = list(self._due.ask(self._topology, look=look, but=but))
        except SegmentError as error:
            self._log("", error)
            # A refused connection takes no time, so it is tried again at the next tick.
            now = time.monotonic()
            self._rests_until = now + REST * (now - began)
            self._set_patience(self._longest)
            return []
        self._log("", None)
        if time.monotonic() - began < self._usual / 4:
            self._set_patience(self._usual)
        for name, answer in answers:
            self._log(name, answer if isinstance(answer, SegmentError) else None)
        return [name for name, answer in answers if answer is True]

    @property
    def is_resting(self) -> bool:
        """Whether Redis did not answer, and is left alone for a while."""
        return time.monotonic() < self._rests_until

    def _set_patience(self, seconds: float) -> None:
        if seconds != self._patience:
            self._patience = seconds
            self._topology.set_timeout(seconds)

    def _log(self, source: str, error: SegmentError | None) -> None:
        """Log an error once, until the source works again."""
        text = str(error) if error else ""
        if text and text != self._errors.get(source):
            logger.warning("%s%s; trying again", f"{source}: " if source else "", text)
        self._errors[source] = text
