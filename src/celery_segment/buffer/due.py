"""Ask of many sources, in one round trip, whether a drain is due."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from celery_segment.buffer import bounds
from celery_segment.buffer.keys import prefix
from celery_segment.buffer.pool import Pool
from celery_segment.buffer.scripts import milliseconds, script
from celery_segment.config import Source
from celery_segment.errors import SegmentBufferError

__all__ = ["Due", "encode_due"]


def encode_due(source: Source, shortest: float, *, look: bool) -> bytes:
    """Return the command that asks of a source whether a drain is due; its reply is 1 or 0.

    Args:
        source: The source.
        shortest: Seconds between two drains, at least.
        look: Whether to look how full Redis is, which refuses or accepts calls.
    """
    times = (milliseconds(bounds.OVERDUE), milliseconds(bounds.AGAIN), milliseconds(bounds.LONGEST))
    limits = (source.max_inflight, *times, bounds.BACKLOG, bounds.STORED_BATCHES)
    share = source.max_memory_share if look else ""
    key = prefix(source.name)
    return script("due").encode_command(key, milliseconds(shortest), *limits, share)


class Due:
    """The question of a worker's tick, encoded once.

    Args:
        sources: The sources.
        shortest: Seconds between two drains of a source, at least.
    """

    def __init__(self, sources: Iterable[Source], shortest: float) -> None:
        sources = list(sources)
        self._names = [source.name for source in sources]
        self._ask = [encode_due(source, shortest, look=False) for source in sources]
        self._ask_and_look = [encode_due(source, shortest, look=True) for source in sources]

    def ask(self, pool: Pool, *, look: bool) -> Iterator[tuple[str, bool | SegmentBufferError]]:
        """Return for each source whether the caller is to start a drain, or what went wrong.

        Args:
            pool: Connections to Redis.
            look: Whether to look how full Redis is, too.
        """
        commands = self._ask_and_look if look else self._ask
        replies = pool.run_all(script("due"), commands)
        for name, reply in zip(self._names, replies, strict=True):
            yield name, reply if isinstance(reply, SegmentBufferError) else bool(reply)
