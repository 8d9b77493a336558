"""Ask of many sources, in one round trip, whether a drain is due."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import product

from celery_segment.buffer import bounds
from celery_segment.buffer.keys import prefix_of
from celery_segment.buffer.scripts import milliseconds, script
from celery_segment.buffer.topology.types import Topology
from celery_segment.config import Source
from celery_segment.errors import SegmentBufferError

__all__ = ["Due", "encode_due"]


def encode_due(source: Source, shortest: float, *, look: bool, unsure: bool) -> bytes:
    """Return the command that asks of a source whether a drain is due; its reply is 1 or 0.

    Args:
        source: The source.
        shortest: Seconds between two drains, at least.
        look: Whether to look how full Redis is, which refuses or accepts calls.
        unsure: Whether the caller did not get the last reply.
    """
    times = (milliseconds(bounds.OVERDUE), milliseconds(bounds.AGAIN), milliseconds(bounds.LONGEST))
    limits = (source.max_inflight, *times, bounds.BACKLOG, bounds.STORED_BATCHES)
    share = source.max_memory_share if look else ""
    retention = "" if source.dead_retention is None else milliseconds(source.dead_retention)
    left = milliseconds(source.lease - bounds.BEGIN)
    flags = (int(unsure), int(source.ordered))
    arguments = (milliseconds(shortest), *limits, share, retention, left, *flags)
    return script("due").encode_command(prefix_of(source), *arguments)


class Due:
    """The question of a worker's tick, encoded once.

    Args:
        sources: The shards of the sources.
        shortest: Seconds between two drains of a shard, at least.
    """

    def __init__(self, sources: Collection[Source], shortest: float) -> None:
        self._sources = {prefix_of(source): source.shard_name for source in sources}
        self._commands = {
            (prefix_of(source), look, unsure): encode_due(
                source, shortest, look=look, unsure=unsure
            )
            for source, look, unsure in product(sources, (False, True), (False, True))
        }

    def ask(
        self,
        topology: Topology,
        *,
        look: bool,
        but: Collection[str] = (),
        unsure: Collection[str] = (),
    ) -> Iterator[tuple[str, bool | SegmentBufferError]]:
        """Return for each shard whether the caller is to start a drain, or what went wrong.

        Args:
            topology: The servers of the buffer.
            look: Whether to look how full Redis is, too.
            but: The names of shards that are left out.
            unsure: The names of those for which the caller did not get the last reply.
        """
        asked = {
            key: self._commands[key, look, name in unsure]
            for key, name in self._sources.items()
            if name not in but
        }
        for key, reply in topology.run_each(script("due"), asked).items():
            is_due = reply if isinstance(reply, SegmentBufferError) else bool(reply)
            yield self._sources[key], is_due
