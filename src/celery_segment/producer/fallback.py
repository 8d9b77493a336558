"""What is done when a source's buffer takes no message.

``segment_on_full`` and ``segment_on_unavailable`` say it: raise, drop and count,
or spill to a file of this host. A source that only raises has no fallback.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from celery_segment.buffer import NOTHING, AttachmentsByPlace, Buffer, buffer_of
from celery_segment.config import Settings, settings_of
from celery_segment.errors import BufferFull, BufferUnavailable, SegmentBufferError
from celery_segment.producer.spill import Spill
from celery_segment.signals import messages_dropped

__all__ = ["Fallback", "way_into"]

logger = logging.getLogger("celery_segment")

#: Seconds for which Redis is not asked again once it was out of reach.
REST = 1.0
#: Seconds between two warnings of the same kind.
QUIET = 10.0


class Fallback:
    """A buffer that does not raise where the settings say otherwise."""

    def __init__(self, buffer: Buffer, spill: Spill | None) -> None:
        self._buffer = buffer
        self._spill = spill
        self._source = buffer.source
        # The file may hold what an earlier process left.
        self._spilled = spill is not None
        self._rests_until = 0.0
        self._dropped: Counter[str] = Counter()
        self._warned_at: dict[str, float] = {}

    def append(self, message: bytes) -> bool:
        """Store one message, or do with it as configured; return whether to wake a worker."""
        return self._take([message], NOTHING, lambda: self._buffer.append(message))

    def append_many(
        self, messages: Sequence[bytes], attachments: AttachmentsByPlace = NOTHING
    ) -> bool:
        """Store messages in their order, as ``Buffer`` does, or do with them as configured."""
        append = self._buffer.append_many
        return self._take(messages, attachments, lambda: append(messages, attachments))

    def give_back(self) -> bool:
        """Move some messages from the file into the buffer; return whether there were any."""
        if self._spill is None:
            return False
        try:
            given = self._spill.give_back(self._source.name, self._buffer.append_many)
        except SegmentBufferError:  # they stay where they are
            return False
        self._spilled = given != 0
        return given > 0

    def _take(
        self,
        messages: Sequence[bytes],
        attachments: AttachmentsByPlace,
        append: Callable[[], bool],
    ) -> bool:
        if time.monotonic() < self._rests_until:
            error = BufferUnavailable("Redis was out of reach a moment ago")
            self._set_aside(messages, attachments, error)
            return False
        try:
            wake = append()
        except BufferFull:
            if self._source.on_full == "raise":
                raise
            self._drop("full", len(messages))
            return False
        except BufferUnavailable as error:
            if self._source.on_unavailable == "raise":
                raise
            self._rests_until = time.monotonic() + REST
            self._set_aside(messages, attachments, error)
            return False
        if self._dropped:
            self._count_drops()
        return (self._spilled and self.give_back()) or wake

    def _set_aside(
        self, messages: Sequence[bytes], attachments: AttachmentsByPlace, error: BufferUnavailable
    ) -> None:
        if self._spill is None:
            self._drop("unavailable", len(messages))
            return
        self._spill.put(self._source.name, messages, attachments)
        self._spilled = True
        self._warn("spilled", f"{error}; messages go to {self._spill.path}")

    def _drop(self, reason: str, messages: int) -> None:
        self._dropped[reason] += messages
        self._warn(reason, f"messages are dropped: {reason}")
        messages_dropped.send(sender=self._source.name, reason=reason, messages=messages)

    def _count_drops(self) -> None:
        """Tell Redis, now that it answers, how many were dropped."""
        with suppress(SegmentBufferError):  # at the next call, then
            for reason in list(self._dropped):
                self._buffer.count_dropped(reason, self._dropped[reason])
                del self._dropped[reason]

    def _warn(self, kind: str, text: str) -> None:
        now = time.monotonic()
        if now - self._warned_at.get(kind, -QUIET) >= QUIET:
            self._warned_at[kind] = now
            logger.warning("%s: %s", self._source.name, text)


_BY_APP: WeakKeyDictionary[Any, dict[str, Buffer | Fallback]] = WeakKeyDictionary()


def way_into(app: Any, source: str) -> Buffer | Fallback:
    """Return the way into a source's buffer.

    Raises:
        ConfigurationError: As ``buffer_of``.
    """
    ways = _BY_APP.setdefault(app, {})
    if source not in ways:
        settings = settings_of(app)
        s = settings.source(source)
        buffer = buffer_of(app, source)
        raises = s.on_full == s.on_unavailable == "raise"
        ways[source] = buffer if raises else Fallback(buffer, _spill_of(settings, source))
    return ways[source]


_spills: dict[str, Spill] = {}


def _spill_of(settings: Settings, source: str) -> Spill | None:
    """Return the process' one handle on the host's file, where the source spills."""
    if settings.source(source).on_unavailable != "spill":
        return None
    path = str(settings.spill_path)
    return _spills.setdefault(path, Spill(path, settings.max_spill_bytes))
