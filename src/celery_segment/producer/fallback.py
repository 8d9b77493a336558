"""What happens to a message that the buffer does not accept.

``segment_on_full`` and ``segment_on_unavailable`` decide: raise, drop and count, or spill
to a file of this host. A source that only raises needs no fallback.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence

from celery_segment.aio.waits import BLOCKING, Waits
from celery_segment.buffer import NO_ATTACHMENTS, AttachmentsByPlace, Violations, most_messages
from celery_segment.config import Source
from celery_segment.errors import BufferFull, BufferUnavailable, SegmentBufferError
from celery_segment.producer.drops import Drops
from celery_segment.producer.spill import Spill
from celery_segment.producer.store import PartStore
from celery_segment.signals import messages_dropped

__all__ = ["Fallback"]

logger = logging.getLogger("celery_segment")

#: Seconds for which Redis is not asked again once it was unreachable, and once it had no room for
#: what was spilled.
REST, FULL_REST = 0.1, 1.0
#: Seconds between two warnings of the same kind.
QUIET = 10.0


class Fallback:
    """A source's store, or a shard's, that drops or spills where the settings say so.

    Where the source keeps the order of its messages, what follows a spilled message is spilled,
    too, until the file is empty.

    Args:
        source: The source, or one of its shards.
        store: The store, which may refuse messages.
        spill: The host's file, where ``segment_on_unavailable`` is "spill".
        others: The names of the source's other shards, if the store has several: the file may
            have messages by these names, too.
        waits: How callers wait for the file.
        returns: The same source's fallback for callers that may block: it gives back what the
            file has, where ``waits`` are those of an event loop.

    Attributes:
        source: The name of the source, or of the shard.
        unknown: Spilled messages of this process that Redis may have stored as well.
    """

    def __init__(
        self,
        source: Source,
        store: PartStore,
        spill: Spill | None,
        others: Collection[str] = (),
        *,
        waits: Waits = BLOCKING,
        returns: Fallback | None = None,
    ) -> None:
        self.source = source.shard_name
        self._below = store
        self._spill = spill
        self._settings = source
        self._others = others
        self._waits = waits
        self._returns = returns
        # The file may hold what an earlier process left.
        self._has_spilled = spill is not None
        self._most = most_messages(source.max_batch_messages)
        self._rests_until = self._file_rests_until = 0.0
        self.unknown = 0
        self._unsure: bytes | None = None
        self._drops = Drops()
        self._warned_at: dict[str, float] = {}

    def append(self, message: bytes) -> None:
        """Store one message, or handle it as configured."""
        self._store([message], NO_ATTACHMENTS, lambda: self._below.append(message))

    def append_many(
        self, messages: Sequence[bytes], attachments: AttachmentsByPlace = NO_ATTACHMENTS
    ) -> None:
        """Store messages in their order, as ``Buffer`` does, or handle them as configured."""
        append = self._below.append_many
        self._store(messages, attachments, lambda: append(messages, attachments))

    def quarantine(self, message: bytes, cause: str, reason: str) -> None:
        """Store a message as a dead letter; drop it where that fails and is not to be raised.

        It is not spilled: what is spilled is delivered later.
        """
        try:
            self._below.quarantine(message, cause, reason)
        except BufferFull:
            if self._settings.on_full == "raise":
                raise
            self._drop("full", 1)
        except BufferUnavailable as error:
            if self._settings.on_unavailable == "raise":
                raise
            self._drop("unknown" if error.unknown else "unavailable", 1)

    @property
    def has_spilled(self) -> bool:
        """Whether the file may have messages of the source."""
        return self._has_spilled

    def count_dropped(self, reason: str, count: int) -> None:
        """Count in Redis what calls dropped."""
        self._below.count_dropped(reason, count)

    def count_violations(self, found: Sequence[Violations]) -> None:
        """Count in Redis what violated the tracking plan."""
        self._below.count_violations(found)

    def give_back(self) -> bool:
        """Move some messages from the file into the buffer; return whether there were any.

        It raises nothing: what cannot be moved stays in the file, and is logged.
        """
        if self._returns is not None:
            found = self._waits.call(self._returns.give_back)
            self._has_spilled = self._returns.has_spilled
            return found
        if self._spill is None or time.monotonic() < self._file_rests_until:
            return False
        try:
            counts = [
                self._spill.give_back(name, self._append_part, self._most)
                for name in (self.source, *self._others)
            ]
        except SegmentBufferError as error:
            rest = FULL_REST if isinstance(error, BufferFull) else REST
            self._file_rests_until = time.monotonic() + rest
            self._warn("not given back", f"spilled messages are not moved to Redis: {error}")
            return False
        self._has_spilled = any(counts)
        if any(count < 0 for count in counts):  # another thread, or process, or a full disk
            self._file_rests_until = time.monotonic() + REST
        return any(count > 0 for count in counts)

    def _append_part(self, messages: Sequence[bytes], attachments: AttachmentsByPlace) -> None:
        """Append messages of the file; note those of which it is not known whether they are stored.

        They stay in the file. As long as that goes on, they come again, and count once.
        """
        try:
            self._below.append_part(messages, attachments)
        except SegmentBufferError as error:
            if error.unknown and messages[0] != self._unsure:
                self._unsure = messages[0]
                self._note_unknown(error.unknown)
            raise

    def _store(
        self, messages: Sequence[bytes], attachments: AttachmentsByPlace, append: Callable[[], None]
    ) -> None:
        if time.monotonic() < self._rests_until:
            error = BufferUnavailable("Redis was unreachable a moment ago")
            self._set_aside(messages, attachments, error)
            return
        if self._settings.ordered and self._is_behind():
            self._set_aside(messages, attachments, BufferUnavailable("others were spilled before"))
            return
        try:
            append()
        except BufferFull as error:
            if self._settings.on_full == "raise":
                raise
            self._drop("full", len(messages) - error.stored)
            return
        except BufferUnavailable as error:
            if self._settings.on_unavailable == "raise":
                raise
            # Where one of several shards may have them, the others are well.
            if not (error.unknown and self._others):
                self._rests_until = time.monotonic() + REST
            self._set_aside(messages, attachments, error)
            return
        if self._drops:
            self._drops.report(self._below.count_dropped)
        if self._has_spilled:
            self.give_back()

    def _is_behind(self) -> bool:
        """Return whether the file has messages that are to be stored before any other."""
        spill = self._spill
        if spill is None or not spill.exists():
            return False
        if not self._waits.call(spill.waiting, self.source):
            return False
        self.give_back()
        return self._waits.call(spill.waiting, self.source) > 0

    def _set_aside(
        self, messages: Sequence[bytes], attachments: AttachmentsByPlace, error: BufferUnavailable
    ) -> None:
        """Drop or spill the messages that are not, or not surely, stored."""
        start, unknown = error.stored, error.unknown
        if self._spill is None:
            self._drop("unavailable", len(messages) - start - unknown)
            self._drop("unknown", unknown)
            return
        rest = {place - start: each for place, each in attachments.items() if place >= start}
        try:
            self._waits.call(self._spill.put, self.source, messages[start:], rest)
        except SegmentBufferError as failure:
            failure.stored, failure.unknown = start, unknown
            raise
        self._has_spilled = True
        self._warn("spilled", f"{error}; messages go to {self._spill.path}")
        if unknown:
            self._note_unknown(unknown)

    def _note_unknown(self, count: int) -> None:
        """Count spilled messages that Redis may have stored as well."""
        self.unknown += count
        self._warn(
            "unknown",
            f"spilled messages of this process that may be stored in Redis as well: {self.unknown};"
            " Segment may receive them twice, with the same messageId",
        )

    def _drop(self, reason: str, count: int) -> None:
        if not count:
            return
        self._drops.add(reason, count)
        self._warn(reason, f"messages are dropped: {reason}")
        messages_dropped.send(sender=self._settings.name, reason=reason, messages=count)

    def _warn(self, kind: str, text: str) -> None:
        now = time.monotonic()
        if now - self._warned_at.get(kind, -QUIET) >= QUIET:
            self._warned_at[kind] = now
            logger.warning("%s: %s", self.source, text)
