"""One method per transition of a source's buffer, the operator's in ``operating``.

What each does to which keys stands on top of its Lua file; ``keys`` says what
the keys hold.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Any

from celery_segment.buffer.admin import BufferAdmin
from celery_segment.buffer.body import ENVELOPE, is_packed, messages_of, packed, unpacked
from celery_segment.buffer.keys import batch_key
from celery_segment.buffer.pool import Interrupted, Pool
from celery_segment.buffer.scripts import milliseconds, script
from celery_segment.buffer.types import (
    AttachmentsByPlace,
    BatchRef,
    Closed,
    DeadLettersFull,
    Gone,
    Lease,
    LeasedElsewhere,
    Settled,
    Stale,
)
from celery_segment.config import Source
from celery_segment.errors import BufferFull

__all__ = ["NOTHING", "Buffer", "parts_of"]

#: A stored batch ends with a comma, which the request leaves out.
_ROOM = len(ENVELOPE[0]) + len(ENVELOPE[1]) - 1

#: A batch is not filled beyond this, whatever is allowed: Redis' allocator (jemalloc) has a
#: size of 448 KiB, and its next, 512 KiB, would waste a twentieth of a full batch's memory.
_FILL = 448 * 1024 - 16

#: Bounds of the work that one script call does.
APPEND_MESSAGES = 500
APPEND_BYTES = 1_000_000
REAP_BATCHES = 100
STORED_BATCHES = 20
UNCALLED_BATCHES = 10
PACKABLE_BATCHES = 50

#: From so many ready batches on there is a backlog, which is packed.
BACKLOG = 50

NOTHING: AttachmentsByPlace = MappingProxyType({})


class Buffer(BufferAdmin):
    """The buffer of one source.

    Its methods raise ``BufferUnavailable``, ``BufferFull`` or ``SegmentBufferError``
    as ``Pool`` does, and ``Stale`` where a holder's token is refused.
    """

    def __init__(self, pool: Pool, source: Source) -> None:
        super().__init__(pool, source)
        key = self._key
        self._append = script("append")
        self._limits = (
            min(source.max_batch_bytes - _ROOM, _FILL),
            source.max_batch_messages,
            source.flush_at,
            milliseconds(source.flush_interval),
            source.max_buffer_bytes or 0,
        )
        one = self._append.call(key, *self._limits, b"")
        # All of an append but its message is the same each time: packed once.
        self._append_one = one[: -len(b"$0\r\n\r\n")]

    def __repr__(self) -> str:
        return f"Buffer({self.source.name!r}, {self._pool!r})"

    # ------------------------------------------------------------ calls

    def append(self, message: bytes) -> bool:
        """Store one message; return whether to wake a worker."""
        packed = b"%b$%d\r\n%b,\r\n" % (self._append_one, len(message) + 1, message)
        try:
            reply = self._pool.send(self._append, packed, once=True)
        except Interrupted:
            return self._append_rest([message], NOTHING)
        return reply == 1 or (reply != 0 and self._taken(reply))

    def append_many(
        self, messages: Sequence[bytes], attachments: AttachmentsByPlace = NOTHING
    ) -> bool:
        """Store messages in their order, many to a round trip; return whether to wake a worker.

        Args:
            messages: The messages.
            attachments: What to keep with a message, by its place among them (from 0).
        """
        wake, start = False, 0
        for part in parts_of(messages):
            end = start + len(part)
            theirs = {n - start: content for n, content in attachments.items() if start <= n < end}
            wake |= self.append_part(part, theirs)
            start = end
        return wake

    def append_part(
        self, messages: Sequence[bytes], attachments: AttachmentsByPlace = NOTHING
    ) -> bool:
        """As ``append_many``, in one round trip: all of them are stored, or none."""
        try:
            return self._append_part(messages, attachments)
        except Interrupted:
            return self._append_rest(messages, attachments)

    def _append_part(self, messages: Sequence[bytes], attachments: AttachmentsByPlace) -> bool:
        stored = b",".join(messages) + b","
        sizes = struct.pack(f"<{len(messages)}H", *[len(message) + 1 for message in messages])
        threes = ((place + 1, *content) for place, content in attachments.items())
        more: Iterator[int | bytes] = chain.from_iterable(threes)
        arguments = (*self._limits, stored, sizes, *more)
        return self._taken(self._pool.run(self._append, self._key, *arguments, once=True))

    def _append_rest(self, messages: Sequence[bytes], attachments: AttachmentsByPlace) -> bool:
        """Store what an interrupted append did not; a script stores all of them or none."""
        if self._pool.run(script("stored"), self._key, messages[-1] + b",", STORED_BATCHES):
            return True  # whether to wake was in the lost reply
        return self._append_part(messages, attachments)

    def _taken(self, reply: int) -> bool:
        if reply < 0:
            raise BufferFull(
                f"the buffer of source {self.source.name!r} has reached segment_max_buffer_bytes"
                f" ({self.source.max_buffer_bytes:,}): let the workers drain it, or raise it"
            )
        return reply == 1

    def count_dropped(self, reason: str, messages: int) -> None:
        """Count messages that a call dropped as ``segment_on_…`` says: "full" or "unavailable"."""
        key = f"{self._key}:stats"
        self._pool.command("HINCRBY", key, f"dropped_{reason}", messages)

    # ------------------------------------------------------------ draining

    def claim(self, limit: int, *, whatever_waits: bool) -> list[BatchRef]:
        """Take up to ``limit`` batches into flight, within ``max_inflight``.

        The open batch is taken when it is due, or whatever it holds.
        """
        return self._claim(limit, whatever_waits=whatever_waits, going_on=False)

    def follow(self, limit: int) -> list[BatchRef]:
        """Return batches for a delivery that goes on.

        One that was claimed before and still waits for its delivery to begin; where there
        is none, up to ``limit`` that are claimed now.
        """
        return self._claim(limit, whatever_waits=False, going_on=True)

    def _claim(self, limit: int, *, whatever_waits: bool, going_on: bool) -> list[BatchRef]:
        s = self.source
        due = (1, 0) if whatever_waits else (s.flush_at, milliseconds(s.flush_interval))
        limits = (s.max_inflight, limit, milliseconds(s.lease), *due)
        return _batches(
            self._pool.run(script("claim"), self._key, *limits, int(going_on), once=True)
        )

    def reap(self) -> tuple[list[BatchRef], bool]:
        """Take batches over whose lease has expired; tell whether ``uncalled`` has some, too."""
        lease = milliseconds(self.source.lease)
        uncalled, flat = self._pool.run(script("reap"), self._key, lease, REAP_BATCHES)
        return _batches(flat), bool(uncalled)

    def due(self, period: float) -> bool:
        """Return whether there is something to drain: True to one caller until it has begun.

        ``period`` is the seconds between a caller's questions.
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

    def begin(self, batch_id: str, token: str) -> Lease | Gone | LeasedElsewhere | Closed:
        """Become the holder of a claimed batch for one attempt, and read its messages."""
        begin = script("begin")
        packed = begin.call(self._key, batch_id, token, milliseconds(self.source.lease))
        key = batch_key(self.source.name, batch_id)
        (verdict, *rest), content = self._pool.run_and_get(begin, packed, key)
        if verdict == 1:
            messages, size, attempts, requests, age, traces = rest
            counts = (messages, size, attempts, requests)
            return Lease(batch_id, token, content, *counts, age / 1000, traces)
        if verdict == -2:  # noqa: PLR2004 - as begin.lua says
            return Closed(None if rest[0] < 0 else rest[0] / 1000)
        return LeasedElsewhere() if verdict == -1 else Gone()

    def traces(self, held: Lease) -> list[bytes]:
        """Return the trace contexts of a batch's calls, of which there are 128 at the most."""
        key = f"{self._key}:traces:{held.id}"
        return list(self._pool.command("HVALS", key)) if held.traces else []

    # Each settles the batch and, in the same step, counts the attempt under ``status``: the
    # answer's, or the kind of failure; "" when nothing was asked.

    def ack(self, held: Lease, status: str = "") -> Settled | None:
        """Settle a delivered batch; return what has to be called for it."""
        told, lease = self.source.on_delivered is not None, milliseconds(self.source.lease)
        reply = self._settle("ack", held, status, int(told), lease)
        return _settled(held, "delivered", None, told, reply)

    def retry(
        self,
        held: Lease,
        what: str,
        wait: float,
        cause: str,
        status: str = "",
        *,
        breaker: tuple[int, float, float],
    ) -> tuple[float, int]:
        """Leave a batch in flight until its next attempt.

        Args:
            held: The batch.
            what: "failure", "asked" or "refused", as retry.lua says.
            wait: Seconds until the next attempt, at the least.
            cause: The cause, for people.
            status: What the attempt is counted under.
            breaker: Failures in a row that trip the breaker; first and longest pause.

        Returns:
            Seconds until the next attempt; how often in a row the breaker tripped, when
            this failure tripped it, else 0.
        """
        trip, first, longest = breaker
        limits = (milliseconds(self.source.lease), trip, milliseconds(first), milliseconds(longest))
        reply = self._settle("retry", held, status, what, milliseconds(wait), *limits, cause)
        _unless_stale(reply[0])
        return reply[0] / 1000, reply[1]

    def split(self, held: Lease, status: str = "") -> None:
        """Put a batch's two halves back in its place."""
        parts = list(messages_of(held.body))
        first = parts[: len(parts) // 2]
        cut = sum(len(part) + 1 for part in first)
        # What lies packed is cut here, else where it lies.
        content = (bytes(unpacked(held.body)),) if is_packed(held.body) else ()
        _unless_stale(self._settle("split", held, status, cut, len(first), *content))

    def bury(
        self, held: Lease, cause: str, text: str = "", status: str = "", *, answered: bool
    ) -> Settled | None:
        """Give a batch up: it becomes a dead letter. Return what has to be called for it.

        Args:
            held: The batch.
            cause: Why, for people.
            text: What the endpoint said to it, for the dead letter alone.
            status: What the attempt is counted under.
            answered: Whether the endpoint answered, and so is not failing.

        Raises:
            DeadLettersFull: There is no room for it among them.
        """
        told, lease = self.source.on_failed is not None, milliseconds(self.source.lease)
        reason = f"{cause}: {text}" if text else cause
        limits = (int(answered), self.source.max_dead_bytes, int(told), lease)
        reply = self._settle("bury", held, status, reason, *limits, cause)
        if reply[0] == -2:  # noqa: PLR2004 - as bury.lua says
            raise DeadLettersFull
        return _settled(held, "dead", cause, told, reply)

    def _settle(self, how: str, held: Lease, *arguments: str | bytes | int) -> Any:
        key = self._key
        return self._pool.run(script(how), key, held.id, held.token, *arguments, once=True)

    # ------------------------------------------------------------ calling back

    def uncalled(self) -> list[Settled]:
        """Take settled batches over whose worker has not called what it had to."""
        lease = milliseconds(self.source.lease)
        flat = self._pool.run(script("uncalled"), self._key, lease, UNCALLED_BATCHES)
        return [
            Settled(name.decode(), i.decode(), why.decode() or None, tuple(own), body, n, size)
            for name, i, n, size, why, body, own in zip(*[iter(flat)] * 7, strict=True)
        ]

    def called(self, settled: Settled) -> None:
        """Forget a settled batch: all that had to be called for it was called."""
        self._pool.run(script("called"), self._key, settled.name)

    # ------------------------------------------------------------ packing

    def packable(self) -> list[str]:
        """Return ids of batches that wait in a backlog and lie unpacked, the oldest first."""
        found = self._pool.run(
            script("packable"), self._key, BACKLOG, STORED_BATCHES, PACKABLE_BATCHES
        )
        return [batch_id.decode() for batch_id in found]

    def pack(self, batch_id: str) -> bool:
        """Compress a ready batch where it lies; return whether it is still ready, and was not."""
        content = self._pool.command("GET", batch_key(self.source.name, batch_id))
        plain = bool(content) and not is_packed(content)
        # Also where there is nothing to do: it is not to be found again.
        arguments = (batch_id, len(content), packed(content)) if plain else (batch_id, 0, b"")
        return bool(self._pool.run(script("pack"), self._key, *arguments))


def parts_of(
    messages: Sequence[bytes], most_bytes: int = APPEND_BYTES
) -> Iterator[Sequence[bytes]]:
    """Cut messages into parts for one round trip each."""
    for start in range(0, len(messages), APPEND_MESSAGES):
        yield from _within(messages[start : start + APPEND_MESSAGES], most_bytes)


def _within(part: Sequence[bytes], most_bytes: int) -> Iterator[Sequence[bytes]]:
    if len(part) == 1 or sum(map(len, part)) + len(part) <= most_bytes:
        yield part
        return
    half = len(part) // 2
    yield from _within(part[:half], most_bytes)
    yield from _within(part[half:], most_bytes)


def _batches(flat: Sequence[Any]) -> list[BatchRef]:
    return [BatchRef(i.decode(), n, size) for i, n, size in zip(*[iter(flat)] * 3, strict=True)]


def _settled(
    held: Lease, how: str, cause: str | None, told: bool, reply: list[Any]
) -> Settled | None:
    verdict, callbacks = reply
    _unless_stale(verdict)
    if not verdict:
        return None
    name, body = f"{how}:{held.id}", held.body if told else b""
    return Settled(name, held.id, cause, tuple(callbacks), body, held.messages, held.bytes)


def _unless_stale(reply: int) -> None:
    if reply < 0:
        raise Stale
