"""Store messages in a source's buffer: one script call for one message, or for many."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from celery_segment.aio.waits import BLOCKING, Waits
from celery_segment.buffer import bounds
from celery_segment.buffer.answers import Interrupted
from celery_segment.buffer.body import ENVELOPE
from celery_segment.buffer.groups import Grouped
from celery_segment.buffer.keys import prefix_of
from celery_segment.buffer.kinds import kind_of
from celery_segment.buffer.parts import APPEND_BYTES, parts_of
from celery_segment.buffer.replicas import send_confirmed
from celery_segment.buffer.scripts import Script, milliseconds, script
from celery_segment.buffer.topology.types import Server
from celery_segment.buffer.types import NO_ATTACHMENTS, AttachmentsByPlace
from celery_segment.buffer.violations import Violations, encode_violations
from celery_segment.config import Source
from celery_segment.errors import BufferFull, BufferUnavailable, SegmentBufferError
from celery_segment.text import one_line

__all__ = ["Appends"]

#: A stored batch ends with a comma, which the request leaves out.
_ENVELOPE_BYTES = len(ENVELOPE[0]) + len(ENVELOPE[1]) - 1

#: A batch is not filled beyond this, whichever limit is configured: Redis' allocator (jemalloc)
#: has a size of 448 KiB, and its next, 512 KiB, would waste a twentieth of a full batch's memory.
_FILL = 448 * 1024 - 16

#: Milliseconds by which the clocks of this host and of Redis may differ over the time of a call.
CLOCKS = 50

#: The limits that append.lua assumes where it is given none.
_DEFAULT_LIMITS = (_FILL, 2_500, 0, 0.75)


class Appends:
    """The part of a source's buffer that calls use. It raises what ``Buffer`` raises.

    Args:
        server: The server that has the source's keys.
        source: The source.
        waits: How callers wait.
    """

    def __init__(self, server: Server, source: Source, waits: Waits = BLOCKING) -> None:
        self._most_bytes = round(APPEND_BYTES * waits.share)
        self._source = source
        self._key = prefix_of(source)
        self._server = server
        self._append = script("append")
        self._replicas = source.wait_replicas
        self._limits = (
            min(source.max_batch_bytes - _ENVELOPE_BYTES, _FILL),
            source.max_batch_messages,
            source.max_buffer_bytes or 0,
            source.max_memory_share,
        )
        # All of an append but its message is the same each time: encoded once.
        limits = () if self._limits == _DEFAULT_LIMITS else ("", *self._limits)
        one = self._append.encode_command(self._key, b"", *limits)
        message = b"$0\r\n\r\n"
        start = one.index(message)
        self._before, self._after = one[:start], one[start + len(message) :]

    def append(self, message: bytes) -> None:
        """Store one message."""
        sent = time.monotonic()
        command = b"%b$%d\r\n%b,\r\n%b" % (self._before, len(message) + 1, message, self._after)
        try:
            if self._replicas:
                reply = self._send(self._append, command)
            else:
                reply = self._server.send(self._append, command, once=True)
        except Interrupted:
            self._append_unless_stored([message], NO_ATTACHMENTS, sent)
        else:
            if reply:
                raise self._full(reply)

    def append_many(
        self, messages: Sequence[bytes], attachments: AttachmentsByPlace = NO_ATTACHMENTS
    ) -> None:
        """Store messages in their order, many to a round trip.

        Args:
            messages: The messages.
            attachments: What to keep with a message, by its place among them (from 0).

        Raises:
            SegmentBufferError: Its ``stored`` says how many of the messages are stored.
        """
        start = 0
        for part in parts_of(messages, self._source.max_batch_messages, self._most_bytes):
            end = start + len(part)
            own = {n - start: each for n, each in attachments.items() if start <= n < end}
            try:
                self.append_part(part, own)
            except SegmentBufferError as error:
                error.stored = start
                if start:
                    error.problem += (
                        f"; the first {start:,} of {len(messages):,} messages are stored"
                    )
                raise
            start = end

    def append_part(
        self, messages: Sequence[bytes], attachments: AttachmentsByPlace = NO_ATTACHMENTS
    ) -> None:
        """As ``append_many``, in one round trip: all of them are stored, or none."""
        sent = time.monotonic()
        try:
            self._append_part(messages, attachments)
        except Interrupted:
            self._append_unless_stored(messages, attachments, sent)
        except BufferUnavailable as error:
            error.unknown *= len(messages)
            raise

    def quarantine(self, message: bytes, cause: str, reason: str) -> None:
        """Store a message as a dead letter, without a delivery.

        Args:
            message: The message.
            cause: Why, as people are told it of this letter.
            reason: The same without what differs from message to message.

        Raises:
            BufferFull: There is no room for it among the dead letters, or in Redis.
        """
        source, grouped = self._source, Grouped(reason, {kind_of(message): 1})
        limits = (source.max_dead_bytes, source.max_memory_share, *grouped.encode(1))
        command = script("quarantine").encode_command(
            self._key, message + b",", one_line(cause), *limits
        )
        # Not repeated where the reply is lost: it might be stored twice.
        reply = self._send(script("quarantine"), command)
        if reply == -1:
            raise BufferFull(
                f"the dead letters of source {source.shard_name!r} have reached"
                f" segment_max_dead_bytes ({source.max_dead_bytes:,})",
                hint="replay or purge some, or raise it",
            )
        if reply:
            raise self._full(reply)

    def count_dropped(self, reason: str, count: int) -> None:
        """Count messages that calls dropped, by one of the reasons of ``Snapshot.dropped``."""
        self._server.execute("HINCRBY", f"{self._key}:stats", f"dropped_{reason}", count, once=True)

    def count_violations(self, found: Sequence[Violations]) -> None:
        """Count messages that violated the tracking plan."""
        self._server.run(script("violations"), self._key, *encode_violations(found), once=True)

    def _append_part(self, messages: Sequence[bytes], attachments: AttachmentsByPlace) -> None:
        stored = b",".join(messages) + b","
        sizes = struct.pack(f"<{len(messages)}H", *[len(message) + 1 for message in messages])
        places = ((place + 1, *each) for place, each in attachments.items())
        flat: Iterator[int | bytes] = chain.from_iterable(places)
        arguments = (stored, sizes, *self._limits, *flat)
        command = self._append.encode_command(self._key, *arguments)
        reply = self._send(self._append, command)
        if reply:
            raise self._full(reply)

    def _send(self, script: Script, command: bytes) -> Any:
        """Send an encoded call of a script; return its reply once enough replicas have it."""
        return send_confirmed(self._server, script, command, self._replicas, once=True)

    def _append_unless_stored(
        self, messages: Sequence[bytes], attachments: AttachmentsByPlace, sent: float
    ) -> None:
        """Repeat an interrupted append that had no effect; a script stores all messages or none."""
        try:
            is_stored = self._is_stored(messages[-1] + b",", sent)
        except BufferUnavailable as error:
            error.unknown = len(messages)
            raise
        if is_stored:
            self._confirm(len(messages))
            return
        try:
            self._append_part(messages, attachments)
        except BufferUnavailable as error:
            error.unknown *= len(messages)
            raise

    def _confirm(self, count: int) -> None:
        """Wait until enough replicas have messages that an interrupted call has stored."""
        if not self._replicas:
            return
        # What replicas confirm is what the present connection has written.
        touch = script("touch")
        try:
            self._send(touch, touch.encode_command(self._key))
        except BufferUnavailable as error:
            error.unknown = count
            raise

    def _is_stored(self, message: bytes, sent: float) -> bool:
        """Return whether a message is in the open batch, or in one sealed since it was sent.

        Each batch is a script call of its own, so that none blocks Redis for long.
        """
        number: int | str = ""
        for _ in range(1 + bounds.STORED_BATCHES):
            elapsed = milliseconds(time.monotonic() - sent) + CLOCKS
            arguments = (message, elapsed, number)
            stored, number = self._server.run(script("stored"), self._key, *arguments)
            if stored or not number:
                return bool(stored)
        return False

    def _full(self, reply: int) -> BufferFull:
        """Return the error that append.lua's refusal means."""
        source = self._source
        if reply == -1:
            return BufferFull(
                f"the buffer of source {source.shard_name!r} has reached segment_max_buffer_bytes"
                f" ({source.max_buffer_bytes:,})",
                hint="let the workers drain it, or raise it",
            )
        return BufferFull(
            f"the Redis of source {source.shard_name!r} uses more than segment_max_memory_share"
            f" ({source.max_memory_share:.0%}) of its maxmemory",
            hint="let the workers drain it, or raise maxmemory",
        )
