"""One method per transition of a source's buffer: the only Redis commands there are.

What each does to which keys stands on top of its Lua file; ``keys`` says what
the keys hold.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Any

import msgspec

from celery_segment.buffer.keys import batch_key, prefix
from celery_segment.buffer.link import Interrupted, Link
from celery_segment.buffer.packing import ENVELOPE, is_packed, packed, unpacked
from celery_segment.buffer.scripts import script
from celery_segment.buffer.state import (
    Batch,
    Beside,
    Closed,
    DeadLetter,
    DeadLettersFull,
    Gone,
    Held,
    HeldByAnother,
    Settled,
    Snapshot,
    Stale,
)
from celery_segment.config import Source
from celery_segment.errors import BufferFull

__all__ = ["NOTHING", "Buffer", "messages_of", "parts_of"]

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
LOOK_AT_BATCHES = 1_000

NOTHING: Mapping[int, Beside] = MappingProxyType({})


class Buffer:
    """The buffer of one source.

    Its methods raise ``BufferUnavailable``, ``BufferFull`` or ``SegmentBufferError``
    as ``Link`` does, and ``Stale`` where a holder's token is refused.
    """

    def __init__(self, link: Link, source: Source) -> None:
        self.source = source
        self._link = link
        self._key = key = prefix(source.name)
        self._append = script("append")
        self._limits = (
            min(source.max_batch_bytes - _ROOM, _FILL),
            source.max_batch_messages,
            source.flush_at,
            _ms(source.flush_interval),
            source.max_buffer_bytes or 0,
        )
        one = self._append.call(key, *self._limits, b"")
        # All of an append but its message is the same each time: packed once.
        self._append_one = one[: -len(b"$0\r\n\r\n")]

    def __repr__(self) -> str:
        return f"Buffer({self.source.name!r}, {self._link!r})"

    # ------------------------------------------------------------ calls

    def append(self, message: bytes) -> bool:
        """Store one message; return whether to wake a worker."""
        packed = b"%b$%d\r\n%b,\r\n" % (self._append_one, len(message) + 1, message)
        try:
            reply = self._link.send(self._append, packed, once=True)
        except Interrupted:
            return self._append_rest([message], NOTHING)
        return reply == 1 or (reply != 0 and self._taken(reply))

    def append_many(
        self, messages: Sequence[bytes], beside: Mapping[int, Beside] = NOTHING
    ) -> bool:
        """Store messages in their order, many to a round trip; return whether to wake a worker.

        Args:
            messages: The messages.
            beside: What to keep beside a message, by its place among them (from 0).
        """
        wake, start = False, 0
        for part in parts_of(messages):
            end = start + len(part)
            theirs = {n - start: content for n, content in beside.items() if start <= n < end}
            wake |= self.append_part(part, theirs)
            start = end
        return wake

    def append_part(
        self, messages: Sequence[bytes], beside: Mapping[int, Beside] = NOTHING
    ) -> bool:
        """As ``append_many``, in one round trip: all of them are stored, or none."""
        try:
            return self._append_part(messages, beside)
        except Interrupted:
            return self._append_rest(messages, beside)

    def _append_part(self, messages: Sequence[bytes], beside: Mapping[int, Beside]) -> bool:
        stored = b",".join(messages) + b","
        sizes = struct.pack(f"<{len(messages)}H", *[len(message) + 1 for message in messages])
        threes = ((place + 1, *content) for place, content in beside.items())
        more: Iterator[int | bytes] = chain.from_iterable(threes)
        arguments = (*self._limits, stored, sizes, *more)
        return self._taken(self._link.run(self._append, self._key, *arguments, once=True))

    def _append_rest(self, messages: Sequence[bytes], beside: Mapping[int, Beside]) -> bool:
        """Store what an interrupted append did not; a script stores all of them or none."""
        if self._link.run(script("stored"), self._key, messages[-1] + b",", STORED_BATCHES):
            return True  # whether to wake was in the lost reply
        return self._append_part(messages, beside)

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
        self._link.command("HINCRBY", key, f"dropped_{reason}", messages)

    # ------------------------------------------------------------ draining

    def claim(self, limit: int, *, whatever_waits: bool) -> list[Batch]:
        """Take up to ``limit`` batches into flight, within ``max_inflight``.

        The open batch is taken when it is due, or whatever it holds.
        """
        return self._claim(limit, whatever_waits=whatever_waits, going_on=False)

    def follow(self, limit: int) -> list[Batch]:
        """Return batches for a delivery that goes on.

        One that was claimed before and still waits for its delivery to begin; where there
        is none, up to ``limit`` that are claimed now.
        """
        return self._claim(limit, whatever_waits=False, going_on=True)

    def _claim(self, limit: int, *, whatever_waits: bool, going_on: bool) -> list[Batch]:
        s = self.source
        due = (1, 0) if whatever_waits else (s.flush_at, _ms(s.flush_interval))
        limits = (s.max_inflight, limit, _ms(s.lease), *due)
        return _batches(
            self._link.run(script("claim"), self._key, *limits, int(going_on), once=True)
        )

    def reap(self) -> tuple[list[Batch], bool]:
        """Take batches over whose lease has expired; tell whether ``uncalled`` has some, too."""
        lease = _ms(self.source.lease)
        uncalled, flat = self._link.run(script("reap"), self._key, lease, REAP_BATCHES)
        return _batches(flat), bool(uncalled)

    def due(self, period: float) -> bool:
        """Return whether there is something to drain: True to one caller until it has begun.

        ``period`` is the seconds between a caller's questions.
        """
        s = self.source
        interval = _ms(s.flush_interval)
        arguments = (_ms(period), s.max_inflight, s.flush_at, interval, BACKLOG, STORED_BATCHES)
        return bool(self._link.run(script("due"), self._key, *arguments))

    # ------------------------------------------------------------ delivering

    def begin(self, batch_id: str, token: str) -> Held | Gone | HeldByAnother | Closed:
        """Become the holder of a claimed batch for one attempt, and read its messages."""
        begin = script("begin")
        packed = begin.call(self._key, batch_id, token, _ms(self.source.lease))
        key = batch_key(self.source.name, batch_id)
        (verdict, *rest), content = self._link.run_and_get(begin, packed, key)
        if verdict == 1:
            messages, size, attempts, requests, age, traces = rest
            counts = (messages, size, attempts, requests)
            return Held(batch_id, token, content, *counts, age / 1000, traces)
        if verdict == -2:  # noqa: PLR2004 - as begin.lua says
            return Closed(None if rest[0] < 0 else rest[0] / 1000)
        return HeldByAnother() if verdict == -1 else Gone()

    def traces(self, held: Held) -> list[bytes]:
        """Return the trace contexts of a batch's calls, of which there are 128 at the most."""
        key = f"{self._key}:traces:{held.id}"
        return list(self._link.command("HVALS", key)) if held.traces else []

    # Each settles the batch and, in the same step, counts the attempt under ``status``: the
    # answer's, or the kind of failure; "" when nothing was asked.

    def ack(self, held: Held, status: str = "") -> Settled | None:
        """Settle a delivered batch; return what has to be called for it."""
        told, lease = self.source.on_delivered is not None, _ms(self.source.lease)
        reply = self._settle("ack", held, status, int(told), lease)
        return _settled(held, "delivered", None, told, reply)

    def retry(
        self,
        held: Held,
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
        limits = (_ms(self.source.lease), trip, _ms(first), _ms(longest))
        reply = self._settle("retry", held, status, what, _ms(wait), *limits, cause)
        _unless_stale(reply[0])
        return reply[0] / 1000, reply[1]

    def split(self, held: Held, status: str = "") -> None:
        """Put a batch's two halves back in its place."""
        parts = list(messages_of(held.body))
        first = parts[: len(parts) // 2]
        cut = sum(len(part) + 1 for part in first)
        # What lies packed is cut here, else where it lies.
        content = (bytes(unpacked(held.body)),) if is_packed(held.body) else ()
        _unless_stale(self._settle("split", held, status, cut, len(first), *content))

    def bury(
        self, held: Held, cause: str, text: str = "", status: str = "", *, answered: bool
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
        told, lease = self.source.on_failed is not None, _ms(self.source.lease)
        reason = f"{cause}: {text}" if text else cause
        limits = (int(answered), self.source.max_dead_bytes, int(told), lease)
        reply = self._settle("bury", held, status, reason, *limits, cause)
        if reply[0] == -2:  # noqa: PLR2004 - as bury.lua says
            raise DeadLettersFull
        return _settled(held, "dead", cause, told, reply)

    def _settle(self, how: str, held: Held, *arguments: str | bytes | int) -> Any:
        key = self._key
        return self._link.run(script(how), key, held.id, held.token, *arguments, once=True)

    # ------------------------------------------------------------ calling back

    def uncalled(self) -> list[Settled]:
        """Take settled batches over whose worker has not called what it had to."""
        lease = _ms(self.source.lease)
        flat = self._link.run(script("uncalled"), self._key, lease, UNCALLED_BATCHES)
        return [
            Settled(name.decode(), i.decode(), why.decode() or None, tuple(own), body, n, size)
            for name, i, n, size, why, body, own in zip(*[iter(flat)] * 7, strict=True)
        ]

    def called(self, settled: Settled) -> None:
        """Forget a settled batch: all that had to be called for it was called."""
        self._link.run(script("called"), self._key, settled.name)

    # ------------------------------------------------------------ packing

    def packable(self) -> list[str]:
        """Return ids of batches that wait in a backlog and lie unpacked, the oldest first."""
        found = self._link.run(
            script("packable"), self._key, BACKLOG, STORED_BATCHES, PACKABLE_BATCHES
        )
        return [batch_id.decode() for batch_id in found]

    def pack(self, batch_id: str) -> bool:
        """Compress a ready batch where it lies; return whether it is still ready, and was not."""
        content = self._link.command("GET", batch_key(self.source.name, batch_id))
        plain = bool(content) and not is_packed(content)
        # Also where there is nothing to do: it is not to be found again.
        arguments = (batch_id, len(content), packed(content)) if plain else (batch_id, 0, b"")
        return bool(self._link.run(script("pack"), self._key, *arguments))

    # ------------------------------------------------------------ operating

    def mark(self) -> int:
        """Seal the open batch and return a mark above all that is stored now."""
        return int(self._link.run(script("mark"), self._key))

    def remaining(self, mark: int) -> int:
        """Return the number of messages up to a mark that are not settled yet.

        While more than a thousand batches wait, later messages are counted too.
        """
        return int(self._link.run(script("remaining"), self._key, mark, LOOK_AT_BATCHES))

    def pause(self) -> bool:
        """Close the source until resumed; return whether it was open."""
        return bool(self._link.run(script("pause"), self._key))

    def resume(self) -> float:
        """Open the source; return for how many seconds the endpoint's own wait still holds."""
        return max(int(self._link.run(script("resume"), self._key)), 0) / 1000

    def dead_letters(
        self,
        after: DeadLetter | None = None,
        *,
        since: float | None = None,
        until: float | None = None,
        limit: int = 100,
    ) -> list[DeadLetter]:
        """Return a page of the dead letters, the oldest first.

        Args:
            after: The last letter of the page before.
            since: Leave those out that were buried before, in seconds since the epoch.
            until: Leave those out that were buried then or later.
            limit: How many at the most.
        """
        first = since if after is None else after.buried
        arguments = (
            "-inf" if first is None else _ms(first),
            "+inf" if until is None else f"({_ms(until)}",
            "" if after is None else after.id,
            limit,
        )
        flat = self._link.run(script("dead"), self._key, *arguments)
        return [
            DeadLetter(i.decode(), n, size, at / 1000, why.decode())
            for i, n, size, at, why in zip(*[iter(flat)] * 5, strict=True)
        ]

    def last_buried(self) -> float | None:
        """Return when the youngest dead letter was buried; None when there is none."""
        youngest = self._link.command("ZRANGE", f"{self._key}:dead", -1, -1, "WITHSCORES")
        return float(youngest[1]) / 1000 if youngest else None

    def is_dead(self, batch_id: str) -> bool:
        """Return whether a batch is a dead letter."""
        key = f"{prefix(self.source.name)}:dead"
        return self._link.command("ZSCORE", key, batch_id) is not None

    def messages(self, batch_id: str) -> list[bytes]:
        """Return a sealed batch's messages as JSON; none when there is no such batch."""
        content = self._link.command("GET", batch_key(self.source.name, batch_id))
        return [bytes(part) for part in messages_of(content)] if content else []

    def replay(self, batch_ids: Iterable[str]) -> int:
        """Put dead letters back among the ready batches; return the number of messages."""
        return int(self._link.run(script("replay"), self._key, *batch_ids))

    def purge(self, batch_ids: Iterable[str]) -> int:
        """Delete dead letters; return the number of messages."""
        return int(self._link.run(script("purge"), self._key, *batch_ids))

    def snapshot(self) -> Snapshot:
        """Return the source's figures at this moment."""
        flat = self._link.run(script("snapshot"), self._key, LOOK_AT_BATCHES)
        return Snapshot.of({flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)})


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


_list_of_raw = msgspec.json.Decoder(list[msgspec.Raw])


def messages_of(stored: bytes | memoryview) -> list[msgspec.Raw]:
    """Return the messages of a stored batch, packed or not, each as it was appended."""
    return _list_of_raw.decode(b"".join((b"[", memoryview(unpacked(stored))[:-1], b"]")))


def _batches(flat: Sequence[Any]) -> list[Batch]:
    return [Batch(i.decode(), n, size) for i, n, size in zip(*[iter(flat)] * 3, strict=True)]


def _settled(
    held: Held, how: str, cause: str | None, told: bool, reply: list[Any]
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


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
