"""One source's buffer: a method per transition of its batches.

What each transition does to which keys is written on top of its Lua file; ``keys`` says
what the keys hold. The operator's transitions are in ``admin``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from celery_segment.buffer.admin import BufferAdmin
from celery_segment.buffer.body import (
    ENVELOPE,
    compressed,
    decompressed,
    is_compressed,
    messages_of,
)
from celery_segment.buffer.keys import batch_key, prefix
from celery_segment.buffer.parts import parts_of
from celery_segment.buffer.pool import Interrupted, Pool
from celery_segment.buffer.scripts import milliseconds, script
from celery_segment.buffer.types import (
    NO_ATTACHMENTS,
    AttachmentsByPlace,
    BatchRef,
    DeadLettersFull,
    Gone,
    Lease,
    LeasedElsewhere,
    Settled,
    SourceClosed,
    Stale,
)
from celery_segment.config import Source
from celery_segment.errors import BufferFull

__all__ = ["Buffer"]

#: A stored batch ends with a comma, which the request leaves out.
_ENVELOPE_BYTES = len(ENVELOPE[0]) + len(ENVELOPE[1]) - 1

#: A batch is not filled beyond this, whichever limit is configured: Redis' allocator (jemalloc)
#: has a size of 448 KiB, and its next, 512 KiB, would waste a twentieth of a full batch's memory.
_FILL = 448 * 1024 - 16

#: Bounds of the work that one script call does.
REAP_BATCHES = 100
STORED_BATCHES = 20
UNCALLED_BATCHES = 10
COMPRESSIBLE_BATCHES = 50

#: From so many ready batches on there is a backlog, which is compressed.
BACKLOG = 50


class Buffer:
    """The buffer of one source.

    Its methods raise ``BufferUnavailable``, ``BufferFull`` or ``SegmentBufferError``
    as ``Pool`` does, and ``Stale`` where a holder's token is refused.

    Attributes:
        source: The source.
        admin: The operator's transitions.
    """

    def __init__(self, pool: Pool, source: Source) -> None:
        self.source = source
        self.admin = BufferAdmin(pool, source)
        self._pool = pool
        self._key = prefix(source.name)
        self._append = script("append")
        self._limits = (
            min(source.max_batch_bytes - _ENVELOPE_BYTES, _FILL),
            source.max_batch_messages,
            source.flush_at,
            milliseconds(source.flush_interval),
            source.max_buffer_bytes or 0,
        )
        one = self._append.encode_command(self._key, *self._limits, b"")
        # All of an append but its message is the same each time: encoded once.
        self._append_one = one[: -len(b"$0\r\n\r\n")]

    def __repr__(self) -> str:
        return f"Buffer({self.source.name!r}, {self._pool!r})"

    # ------------------------------------------------------------ calls

    def append(self, message: bytes) -> bool:
        """Store one message; return whether to wake a worker."""
        command = b"%b$%d\r\n%b,\r\n" % (self._append_one, len(message) + 1, message)
        try:
            reply = self._pool.send(self._append, command, once=True)
        except Interrupted:
            return self._append_unless_stored([message], NO_ATTACHMENTS)
        return reply == 1 or (reply != 0 and self._wakes(reply))

    def append_many(
        self, messages: Sequence[bytes], attachments: AttachmentsByPlace = NO_ATTACHMENTS
    ) -> bool:
        """Store messages in their order, many to a round trip; return whether to wake a worker.

        Args:
            messages: The messages.
            attachments: What to keep with a message, by its place among them (from 0).
        """
        wake, start = False, 0
        for part in parts_of(messages):
            end = start + len(part)
            own = {n - start: each for n, each in attachments.items() if start <= n < end}
            wake |= self.append_part(part, own)
            start = end
        return wake

    def append_part(
        self, messages: Sequence[bytes], attachments: AttachmentsByPlace = NO_ATTACHMENTS
    ) -> bool:
        """As ``append_many``, in one round trip: all of them are stored, or none."""
        try:
            return self._append_part(messages, attachments)
        except Interrupted:
            return self._append_unless_stored(messages, attachments)

    def _append_part(self, messages: Sequence[bytes], attachments: AttachmentsByPlace) -> bool:
        stored = b",".join(messages) + b","
        sizes = struct.pack(f"<{len(messages)}H", *[len(message) + 1 for message in messages])
        places = ((place + 1, *each) for place, each in attachments.items())
        flat: Iterator[int | bytes] = chain.from_iterable(places)
        arguments = (*self._limits, stored, sizes, *flat)
        return self._wakes(self._pool.run(self._append, self._key, *arguments, once=True))

    def _append_unless_stored(
        self, messages: Sequence[bytes], attachments: AttachmentsByPlace
    ) -> bool:
        """Repeat an interrupted append that had no effect; a script stores all messages or none."""
        if self._pool.run(script("stored"), self._key, messages[-1] + b",", STORED_BATCHES):
            return True  # whether to wake was in the lost reply
        return self._append_part(messages, attachments)

    def _wakes(self, reply: int) -> bool:
        """Return whether an append's reply asks to wake a worker."""
        if reply < 0:
            raise BufferFull(
                f"the buffer of source {self.source.name!r} has reached segment_max_buffer_bytes"
                f" ({self.source.max_buffer_bytes:,})",
                hint="let the workers drain it, or raise it",
            )
        return reply == 1

    def count_dropped(self, reason: str, count: int) -> None:
        """Count messages that calls dropped: ``reason`` is "full" or "unavailable"."""
        self._pool.execute("HINCRBY", f"{self._key}:stats", f"dropped_{reason}", count)

    # ------------------------------------------------------------ draining

    def claim(self, limit: int, *, due_only: bool = False) -> list[BatchRef]:
        """Take up to ``limit`` batches into flight, within ``max_inflight``.

        The open batch is sealed and taken, too, or only when it is due.
        """
        return self._claim(limit, due_only=due_only, resume=False)

    def claim_next(self, limit: int) -> list[BatchRef]:
        """Return batches for a delivery that has time for another one.

        That is a batch which was claimed before and whose delivery has not begun; where
        there is none, up to ``limit`` batches that are claimed now.
        """
        return self._claim(limit, due_only=True, resume=True)

    def _claim(self, limit: int, *, due_only: bool, resume: bool) -> list[BatchRef]:
        s = self.source
        due = (s.flush_at, milliseconds(s.flush_interval)) if due_only else (1, 0)
        limits = (s.max_inflight, limit, milliseconds(s.lease), *due, int(resume))
        return _batches(self._pool.run(script("claim"), self._key, *limits, once=True))

    def reap(self) -> tuple[list[BatchRef], bool]:
        """Take over batches whose lease has expired; return whether ``uncalled`` has some, too."""
        lease = milliseconds(self.source.lease)
        uncalled, flat = self._pool.run(script("reap"), self._key, lease, REAP_BATCHES)
        return _batches(flat), bool(uncalled)

    def due(self, period: float) -> bool:
        """Return whether a drain is due: True for one caller, until that drain has begun.

        Args:
            period: Seconds between two questions of a caller.
        """
        s = self.source
        interval = milliseconds(s.flush_interval)
        arguments = (
            milliseconds(period),
            s.max_inflight,
            s.flush_at,
            interval,
            BACKLOG,
            STORED_BATCHES,
        )
        return bool(self._pool.run(script("due"), self._key, *arguments))

    # ------------------------------------------------------------ delivering

    def begin(self, batch_id: str, token: str) -> Lease | Gone | LeasedElsewhere | SourceClosed:
        """Become the holder of a claimed batch for one attempt, and read its messages."""
        begin, lease = script("begin"), milliseconds(self.source.lease)
        command = begin.encode_command(self._key, batch_id, token, lease)
        key = batch_key(self.source.name, batch_id)
        (verdict, *rest), content = self._pool.run_and_get(begin, command, key)
        if verdict == 1:
            count, size, attempts, requests, age, traces = rest
            counts = (count, size, attempts, requests)
            return Lease(batch_id, token, content, *counts, age / 1000, traces)
        if verdict == -2:  # noqa: PLR2004 - as begin.lua says
            return SourceClosed(None if rest[0] < 0 else rest[0] / 1000)
        return LeasedElsewhere() if verdict == -1 else Gone()

    def traces(self, lease: Lease) -> list[bytes]:
        """Return the trace contexts of a batch's calls: at most 128."""
        key = f"{self._key}:traces:{lease.id}"
        return list(self._pool.execute("HVALS", key)) if lease.traces else []

    # Each settles the batch and, in the same step, counts the attempt under ``status``: that of
    # the answer, or the kind of failure; "" when no request was made.

    def ack(self, lease: Lease, status: str = "") -> Settled | None:
        """Settle a delivered batch; return it if there are callbacks to run for it."""
        hooked = self.source.on_delivered is not None
        reply = self._settle("ack", lease, status, int(hooked), milliseconds(self.source.lease))
        return _settled(lease, "delivered", None, hooked, reply)

    def retry(
        self,
        lease: Lease,
        what: str,
        wait: float,
        cause: str,
        status: str = "",
        *,
        breaker: tuple[int, float, float],
    ) -> tuple[float, int]:
        """Leave a batch in flight until its next attempt.

        Args:
            lease: The batch.
            what: "failure", "asked" or "refused", as retry.lua says.
            wait: The least number of seconds until the next attempt.
            cause: The cause, for people.
            status: What the attempt is counted under.
            breaker: Failures in a row that trip the breaker; first and longest pause.

        Returns:
            Seconds until the next attempt; how often in a row the breaker tripped, when
            this failure tripped it, else 0.
        """
        trip, first, longest = breaker
        limits = (milliseconds(self.source.lease), trip, milliseconds(first), milliseconds(longest))
        reply = self._settle("retry", lease, status, what, milliseconds(wait), *limits, cause)
        _unless_stale(reply[0])
        return reply[0] / 1000, reply[1]

    def split(self, lease: Lease, status: str = "") -> None:
        """Put a batch's two halves back in its place."""
        parts = list(messages_of(lease.body))
        first = parts[: len(parts) // 2]
        cut = sum(len(part) + 1 for part in first)
        # The script cuts what it finds; it cannot decompress.
        content = (bytes(decompressed(lease.body)),) if is_compressed(lease.body) else ()
        _unless_stale(self._settle("split", lease, status, cut, len(first), *content))

    def bury(
        self, lease: Lease, cause: str, text: str = "", status: str = "", *, answered: bool
    ) -> Settled | None:
        """Make a batch a dead letter; return it if there are callbacks to run for it.

        Args:
            lease: The batch.
            cause: Why it is given up, for people.
            text: The endpoint's own words, stored with the dead letter alone.
            status: What the attempt is counted under.
            answered: Whether the endpoint answered, and so is not failing.

        Raises:
            DeadLettersFull: The dead letters have no room for it.
        """
        hooked = self.source.on_failed is not None
        reason = f"{cause}: {text}" if text else cause
        bound = self.source.max_dead_bytes
        limits = (int(answered), bound, int(hooked), milliseconds(self.source.lease))
        reply = self._settle("bury", lease, status, reason, *limits, cause)
        if reply[0] == -2:  # noqa: PLR2004 - as bury.lua says
            raise DeadLettersFull
        return _settled(lease, "dead", cause, hooked, reply)

    def _settle(self, transition: str, lease: Lease, *arguments: str | bytes | int) -> Any:
        held = (self._key, lease.id, lease.token)
        return self._pool.run(script(transition), *held, *arguments, once=True)

    # ------------------------------------------------------------ callbacks

    def uncalled(self) -> list[Settled]:
        """Take over settled batches whose worker has not run their callbacks in time."""
        lease = milliseconds(self.source.lease)
        flat = self._pool.run(script("uncalled"), self._key, lease, UNCALLED_BATCHES)
        return [
            Settled(name.decode(), i.decode(), why.decode() or None, tuple(own), body, n, size)
            for name, i, n, size, why, body, own in zip(*[iter(flat)] * 7, strict=True)
        ]

    def called(self, settled: Settled) -> None:
        """Forget a settled batch whose callbacks have run."""
        self._pool.run(script("called"), self._key, settled.name)

    # ------------------------------------------------------------ compression

    def compressible(self) -> list[str]:
        """Return ids of batches of a backlog that are not compressed yet, the oldest first."""
        found = self._pool.run(
            script("compressible"), self._key, BACKLOG, STORED_BATCHES, COMPRESSIBLE_BATCHES
        )
        return [batch_id.decode() for batch_id in found]

    def compress(self, batch_id: str) -> bool:
        """Compress a ready batch in its place; return whether it was there to be compressed."""
        content = self._pool.execute("GET", batch_key(self.source.name, batch_id))
        plain = bool(content) and not is_compressed(content)
        # Also where there is nothing to do: ``compressible`` is not to return it again.
        arguments = (batch_id, len(content), compressed(content)) if plain else (batch_id, 0, b"")
        return bool(self._pool.run(script("compress"), self._key, *arguments))


def _batches(flat: Sequence[Any]) -> list[BatchRef]:
    return [BatchRef(i.decode(), n, size) for i, n, size in zip(*[iter(flat)] * 3, strict=True)]


def _settled(
    lease: Lease, how: str, cause: str | None, hooked: bool, reply: list[Any]
) -> Settled | None:
    verdict, callbacks = reply
    _unless_stale(verdict)
    return Settled.of(lease, how, cause, callbacks, keep_body=hooked) if verdict else None


def _unless_stale(reply: int) -> None:
    if reply < 0:
        raise Stale
