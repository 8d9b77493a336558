"""Ask of many sources, in one round trip, whether a drain is due."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from celery_segment.buffer import bounds
from celery_segment.buffer.keys import prefix_of
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
    retention = "" if source.dead_retention is None else milliseconds(source.dead_retention)
    arguments = (milliseconds(shortest), *limits, share, retention)
    return script("due").encode_command(prefix_of(source), *arguments)


class Due:
    """The question of a worker's tick, encoded once.

    Args:
        sources: The sources.
        shortest: Seconds between two drains of a source, at least.
    """

    def __init__(self, sources: Iterable[Source], shortest: float) -> None:
        sources = list(sources)
        self._ask = {s.name: encode_due(s, shortest, look=False) for s in sources}
        self._ask_and_look = {s.name: encode_due(s, shortest, look=True) for s in sources}

    def ask(
        self, pool: Pool, *, look: bool, but: Collection[str] = ()
    ) -> Iterator[tuple[str, bool | SegmentBufferError]]:
        """Return for each source whether the caller is to start a drain, or what went wrong.

        Args:
            pool: Connections to Redis.
            look: Whether to look how full Redis is, too.
            but: The names of sources that are left out.
        """
        commands = self._ask_and_look if look else self._ask
        asked = {name: commands[name] for name in commands if name not in but}
        replies = pool.run_all(script("due"), list(asked.values())) if asked else []
        for name, reply in zip(asked, replies, strict=True):
            yield name, reply if isinstance(reply, SegmentBufferError) else bool(reply)
