"""Follow a source: read each message once it is stored, wherever it goes then.

What is stored is read from the open batch, and the rest of it once it is sealed. A batch may be
delivered and deleted within milliseconds. So while somebody follows the source, each batch that is
sealed is copied (``_keep_for_tail.lua``). A copy is deleted once all who follow have read it, and
ends by itself some seconds later. Calls pay nothing for it, and a seal looks up one key.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from uuid import uuid4

import msgspec

from celery_segment.buffer import bounds
from celery_segment.buffer.body import decompressed, messages_of
from celery_segment.buffer.forgetting import read_messages
from celery_segment.buffer.keys import batch_key, prefix_of
from celery_segment.buffer.scripts import milliseconds, script
from celery_segment.buffer.topology.types import Server
from celery_segment.buffer.types import Damaged
from celery_segment.config import Source

__all__ = ["Tail", "Tailed"]


@dataclass(frozen=True)
class Tailed:
    """What was stored since the last look.

    Attributes:
        messages: The messages as JSON, in the order in which they were stored.
        missed: The number of messages that were stored, and deleted before they could be read.
        is_behind: Whether batches were sealed, so that the next ones are to be read at once.
        is_reset: Whether the source is not what it was at the last look, as after a failover to a
            replica that was behind: its messages are read from this moment on.
    """

    messages: list[bytes] = field(default_factory=list, repr=False)
    missed: int = 0
    is_behind: bool = False
    is_reset: bool = False


@dataclass(frozen=True)
class _Read:
    """What was read of the open batch: its size, its CRC-32 and how many messages it has."""

    size: int = 0
    crc: int = 0
    count: int = 0

    def is_in(self, content: bytes | memoryview) -> bool:
        """Return whether a batch begins with what was read."""
        return zlib.crc32(memoryview(content)[: self.size]) == self.crc

    def plus(self, content: bytes, count: int) -> _Read:
        return _Read(self.size + len(content), zlib.crc32(content, self.crc), self.count + count)


class Tail:
    """Follows one source, or one shard, from the moment at which it is created.

    It is to be read again within ``bounds.TAIL`` seconds. Whoever stops has nothing to tidy up.

    Args:
        server: The server of the source's keys.
        source: The source.

    Raises:
        SegmentBufferError: Redis did not answer.
    """

    def __init__(self, server: Server, source: Source) -> None:
        self.source = source
        self._server = server
        self._key = prefix_of(source)
        self._name = uuid4().hex
        self._begin()

    def _begin(self) -> None:
        """Go on from what is stored at this moment."""
        self._read, self._found, self._is_whole = _Read(), 0, True
        self._last, self._accepted, _, content = self._look("")
        self._read = self._read.plus(content, len(_messages(content) or []))

    def read(self) -> Tailed:
        """Return what was stored since the last look.

        Raises:
            SegmentBufferError: Redis did not answer; the next look misses nothing for that.
        """
        last, accepted, size, content = self._look(self._last)
        if last > self._last:
            return self._read_sealed(last, accepted)
        is_same = last == self._last and size >= self._read.size
        messages = _messages(content) if is_same else None
        if messages is None:
            self._begin()
            return Tailed(is_reset=True)
        self._read = self._read.plus(content, len(messages))
        return Tailed(messages)

    def _look(self, last: int | str) -> tuple[int, int, int, bytes]:
        kept = milliseconds(bounds.TAIL)
        arguments = (self._name, last, self._read.size, kept)
        number, accepted, size, content = self._server.run(script("tail"), self._key, *arguments)
        return number, accepted, size, bytes(content)

    def _read_sealed(self, last: int, accepted: int) -> Tailed:
        """Read some of the batches that were sealed since the last look."""
        first = max(self._last + 1, last - bounds.TAIL_BATCHES + 1)
        self._is_whole = self._is_whole and first == self._last + 1
        found, until = [], min(last, first + bounds.TAIL_LOOK - 1)
        for number in range(first, until + 1):
            before = self._read if number == self._last + 1 else _Read()
            messages = self._sealed(number, before)
            self._is_whole = self._is_whole and bool(messages)
            self._found += len(messages)
            found += messages[before.count :]
        self._last, self._read, missed = until, _Read(), 0
        if until == last:
            missed = 0 if self._is_whole else max(accepted - self._accepted - self._found, 0)
            self._accepted, self._found, self._is_whole = accepted, 0, True
        return Tailed(found, missed, is_behind=True)

    def _sealed(self, number: int, before: _Read) -> list[bytes]:
        """Return a batch's messages, where it begins with what was read of it; else none."""
        for key in (f"{self._key}:tailed:{number}", batch_key(self.source, str(number))):
            content, messages = self._batch(key)
            if messages and before.is_in(content):
                return messages
        return []

    def _batch(self, key: str) -> tuple[bytes | memoryview, list[bytes]]:
        try:
            stored, messages = read_messages(self._server, key)
        except Damaged:
            return b"", []
        return decompressed(stored), [bytes(each) for each in messages]


def _messages(content: bytes) -> list[bytes] | None:
    """Return the messages of a part of the open batch; None where it is damaged."""
    try:
        return [bytes(each) for each in messages_of(content)] if content else []
    except msgspec.MsgspecError:
        return None
