"""Find out, in one short round trip for all sources, which of them are due."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence

from celery_segment.buffer import Due, Resting, Topology
from celery_segment.config import Source
from celery_segment.errors import SegmentError

__all__ = ["REST", "Ticker"]

logger = logging.getLogger("celery_segment")

#: Seconds that a round trip may take: usually, and at most where Redis is slow. The worker's
#: event loop waits with it.
PATIENCE, LONGEST = 0.2, 0.5
#: Seconds for which a server that does not answer is left alone, so that the event loop, and the
#: sources of other servers, do not wait for it. As soon as it is heard, it is asked again.
REST = 5.0
#: A drain follows another after this part of the tick's period at the earliest, so that the
#: ticks of several workers do not flush a source more often than those of one.
SHORTEST = 0.8
#: Seconds for which a drain may be under way that was due, though the reply was lost.
UNSURE = 2.0
#: One of so many ticks looks how full Redis is.
LOOK = 4


class Ticker:
    """Asks a Redis which sources are due, and waits for it no longer than an event loop can afford.

    Where Redis is slow, it waits longer, once.

    Args:
        sources: The sources' shards.
        topology: The servers of the buffer, with connections of its own.
        period: Seconds between two ticks.
        timeout: Seconds that a round trip may take in any case.

    Attributes:
        topology: The same.
        is_cut_off: Whether no server answered the last time.
    """

    def __init__(
        self, sources: Sequence[Source], topology: Topology, period: float, timeout: float
    ) -> None:
        self._due = Due(sources, SHORTEST * period)
        self._names = [source.shard_name for source in sources]
        # Until when it is not known if a drain of a source was due that has not begun.
        self._unsure_until = dict.fromkeys(self._names, 0.0)
        self.topology = topology
        self._usual, self._longest = min(PATIENCE, timeout), min(LONGEST, timeout)
        self._patience = self._usual
        self.topology.set_timeout(self._patience)
        self.is_cut_off = False
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
        look = self._count % LOOK == 0
        self._count += 1
        if not free and not look:
            return []
        began = time.monotonic()
        unsure = {name for name in self._names if began < self._unsure_until[name]}
        try:
            answers = list(self._due.ask(self.topology, look=look, but=but, unsure=unsure))
        except SegmentError as error:
            self._note("", error)
            self.is_cut_off = True
            if time.monotonic() - began > self._usual / 4:
                self._set_patience(self._longest)
            return []
        self._note("", None)
        self.is_cut_off = False
        if time.monotonic() - began < self._usual / 4:
            self._set_patience(self._usual)
        for name, answer in answers:
            self._note(name, answer if isinstance(answer, SegmentError) else None)
        due = [name for name, answer in answers if answer is True]
        self._unsure_until.update(dict.fromkeys(due, 0.0))
        return due

    def _set_patience(self, seconds: float) -> None:
        if seconds != self._patience:
            self._patience = seconds
            self.topology.set_timeout(seconds)

    def _note(self, source: str, error: SegmentError | None) -> None:
        """Note an error of a source, or of all; log it once, until that works again."""
        text = str(error) if error else ""
        if error:
            until = time.monotonic() + UNSURE
            self._unsure_until.update(dict.fromkeys([source] if source else self._names, until))
            if isinstance(error, Resting) and self._errors.get(source):
                return  # it was told why it is not asked
        if text and text != self._errors.get(source):
            logger.warning("%s%s; trying again", f"{source}: " if source else "", text)
        self._errors[source] = text
