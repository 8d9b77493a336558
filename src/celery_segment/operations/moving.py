"""Move all that is stored of one source to another one, while both may be in use.

A batch is set aside at the old source, stored by the new one, then deleted at the old one. Each
step is one script on the keys of one source, so that the two may be in different slots of a
cluster, or in different Redis servers. Each changes nothing when it is repeated: the old source
numbers its moves, and the new one remembers the last number that it stored. So a move that is
killed anywhere is repeated, and neither loses a message nor doubles one. Of two that run at
the same time, the one that began first is refused.

A message is counted at the one source or at the other. With a batch, its messages leave what the
old source has accepted, and are accepted by the new one. Once the old source is empty, its
totals (delivered, purged, attempts …) are added to the new one's, and its keys are deleted.

What others hold is waited for: a batch in flight comes back once its worker has settled it or its
lease has expired, a callback is run here once the worker that was to run it had its time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

from celery_segment.buffer import (
    STORES,
    Buffer,
    Stale,
    Topology,
    check_format,
    most_messages,
    stored_sources,
)
from celery_segment.config import Source
from celery_segment.errors import BufferFull, ConfigurationError, SegmentBufferError
from celery_segment.operations.unconfigured import SEARCH
from celery_segment.producer import Spill
from celery_segment.runtime import Runtime, runtime_of

__all__ = ["Move", "SourceMove", "pairs", "rename", "run", "shards_of", "target_of"]

#: Seconds between two looks at what others still hold of the old sources.
POLL = 0.25

Watch = Callable[["Move"], object]


class SourceMove:
    """Moves all shards of a source: each into one of the source that receives them.

    Args:
        moves: The move of each shard.
    """

    def __init__(self, moves: Sequence[Move]) -> None:
        self.moves = moves

    @property
    def moved(self) -> int:
        """The number of messages that were moved."""
        return sum(move.moved for move in self.moves)

    @property
    def remaining(self) -> int:
        """The number of messages that the old source holds, as of the last look."""
        return sum(move.remaining for move in self.moves)

    @property
    def waits_for(self) -> str:
        """What the move waits for, in words; empty once the old source is gone."""
        return next((move.waits_for for move in self.moves if move.waits_for), "")

    @property
    def owner(self) -> str:
        """The name of the application that delivers the old source; "" where it is not known."""
        return next((move.owner for move in self.moves if move.owner), "")

    def look(self) -> None:
        """Look at what remains, and for what it waits, as ``Move.look`` does."""
        for move in self.moves:
            move.look()

    def run(self, timeout: float | None = None, *, watch: Watch = lambda _: None) -> int:
        """Move until the old source is empty, as ``run`` says."""
        return run([self], timeout, watch=watch)


class Move:
    """Moves all that one buffer holds into another one.

    Args:
        app: The Celery application, which runs the callbacks that are left.
        old: The buffer to empty.
        new: The buffer that receives its messages.
        spill: A file of this host which may hold spilled messages of the old source.
        keeps_room: Whether to leave the room in the new Redis that ``segment_max_memory_share``
            leaves to others. Within one Redis, a move takes none.

    Attributes:
        moved: The number of messages that were moved.
        remaining: The number of messages that the old source holds, as of the last look.
        waits_for: What the move waits for, in words; empty once the old source is gone.
    """

    def __init__(
        self,
        app: Any,
        old: Buffer,
        new: Buffer,
        spill: Spill | None = None,
        *,
        keeps_room: bool = False,
    ) -> None:
        self._app = app
        self._old, self._new = old, new
        self._spill = spill
        self._share = new.source.max_memory_share if keeps_room else 1.0
        self._room = 0
        self._format = STORES
        self.moved = self.remaining = 0
        self.waits_for = ""

    @property
    def owner(self) -> str:
        """The name of the application that delivers the old source; "" where it is not known."""
        return self._old.admin.snapshot().owner

    def step(self, watch: Watch = lambda _: None) -> bool:
        """Move all but what others hold; return whether another step may move more.

        Raises:
            ConfigurationError: Both buffers are one, or one is stored in a newer format.
            SegmentBufferError: As ``run`` says.
        """
        before = self.moved
        self.look()
        try:
            is_done = self._move_what_is_free(watch)
        except BufferFull:
            self.look()
            self.waits_for = _FULL
            is_done = False
        except Stale:
            raise _taken_over(self._old) from None
        is_stuck = self.waits_for == _DEAD_LETTERS_FULL and self.moved == before
        return not (is_done or is_stuck)

    def look(self) -> None:
        """Look at what remains, and for what it waits.

        Raises:
            ConfigurationError: The old source is stored in a newer format than this release reads.
        """
        figures = self._old.admin.snapshot()
        check_format(self._old.source.shard_name, figures.format)
        self._format = figures.format
        spilled = 0 if self._spill is None else self._spill.waiting(self._old.source.shard_name)
        self.remaining = figures.waiting + figures.dead.messages + spilled
        self.waits_for = ""
        if spilled:
            self.waits_for = "another process, which uses the spill file"
        elif figures.inflight.messages:
            self.waits_for = "a worker that delivers them, or whose lease has not expired yet"
        elif figures.waiting:
            self.waits_for = "another run: they were stored just now"
        elif figures.uncalled_batches:
            self.waits_for = "callbacks of settled batches, which have not run yet"
        elif figures.dead.messages:
            self.waits_for = _DEAD_LETTERS_FULL

    def _move_what_is_free(self, watch: Watch) -> bool:
        """Move all but what others hold; return whether nothing of the old source is left."""
        self._move_spilled()
        begun = self._old.admin.start_move()
        if begun is None:
            self.look()
            return not self.remaining
        if self._new.admin.origin() == begun[0]:
            raise _one_buffer(self._old)
        check_format(self._new.source.shard_name, self._new.admin.note_format(self._format))
        # Loaded by whoever moves, not by the calls.
        from celery_segment.worker.inprocess import take_back

        take_back(self._app, self._old)
        self._room = self._room_for_dead()
        while self._move_next(*begun):
            watch(self)
        is_removed = self._old.admin.remove()
        self.look()
        return is_removed and not self.remaining

    def _move_next(self, origin: bytes, mover: int) -> bool:
        """Move a batch, or the totals; return False where there is nothing to move."""
        old, new = self._old.admin, self._new.admin
        moving = old.next_move(mover, largest_dead=self._room)
        if moving is None:
            return False
        new.receive(origin, mover, moving, share=self._share)
        old.end_move(moving)
        self.moved += moving.count
        self._room -= moving.size if moving.what == "dead" else 0
        return True

    def _move_spilled(self) -> None:
        """Move what this host has spilled; it may be another process' turn to give back."""
        if self._spill is not None:
            most = most_messages(self._new.source.max_batch_messages)
            append, name = self._new.append_part, self._old.source.shard_name
            while (count := self._spill.give_back(name, append, most)) > 0:
                self.moved += count

    def _room_for_dead(self) -> int:
        """Bytes of dead letters that the new source has room for."""
        dead = self._new.admin.snapshot().dead.bytes
        return max(self._new.source.max_dead_bytes - dead, 0)


_DEAD_LETTERS_FULL = "room: the new source's dead letters are full (segment_max_dead_bytes)"
_FULL = (
    "room in the new Redis (segment_max_memory_share; for spilled messages,"
    " segment_max_buffer_bytes)"
)


def run(
    sources: Collection[SourceMove], timeout: float | None = None, *, watch: Watch = lambda _: None
) -> int:
    """Move until the old sources are empty; return the number of messages that remain.

    Args:
        sources: The move of each source.
        timeout: Seconds to wait for what others hold; no limit when left out.
        watch: Called after each batch.

    Raises:
        ConfigurationError: A source's buffers are one, or one is stored in a newer format.
        SegmentBufferError: Redis did not answer or has no room, or another move has begun.
            Nothing is lost: what was not moved is moved by another run.
    """
    end = None if timeout is None else time.monotonic() + timeout
    left = [move for source in sources for move in source.moves]
    while True:
        left = [move for move in left if move.step(watch)]
        wait = POLL if end is None else min(end - time.monotonic(), POLL)
        if not left or wait <= 0:
            return sum(source.remaining for source in sources)
        time.sleep(wait)


def rename(app: Any, old: str, new: str) -> SourceMove:
    """Return the move of all that is stored of a source to another one of the same Redis.

    Args:
        app: The Celery application.
        old: The name of the source to empty, or of one of its shards; it need not be configured.
        new: The name of a configured source.

    Raises:
        ConfigurationError: ``new`` is not configured or not enabled, or is ``old``, or has that
            shard.
        SegmentBufferError: Redis did not answer.
    """
    runtime = runtime_of(app)
    if old == new:
        raise ConfigurationError(f"both names are {old!r}", hint="give two different ones")
    target = target_of(runtime, new)
    settings, topology = runtime.settings, runtime.topology
    if old in settings.shards and settings.shards[old].name == new:
        raise ConfigurationError(f"{old!r} is a shard of {new!r}", hint="give another source")
    source = settings.sources.get(old) or replace(target, shards=1).stored_as(old)
    shards = [source] if source.shard else shards_of(topology, source)
    return SourceMove([Move(app, *pair, runtime.spill) for pair in pairs(runtime, shards, new)])


def shards_of(topology: Topology, source: Source) -> list[Source]:
    """Return the shards of a source: those that are configured, and those that are stored."""
    stored = map(source.stored_as, stored_sources(topology, source.namespace, SEARCH).names)
    names = {each.shard_name for each in (*source.split(), *stored) if each.name == source.name}
    return sorted(map(source.stored_as, names), key=lambda shard: shard.shard)


def pairs(
    runtime: Runtime, shards: Collection[Source], new: str, topology: Topology | None = None
) -> Iterator[tuple[Buffer, Buffer]]:
    """Return for each shard of an old source its buffer, and that which is to receive it.

    Args:
        runtime: The application's runtime.
        shards: The shards of the old source.
        new: The name of a configured source.
        topology: The servers of the old source; by default those of the new one.
    """
    targets = runtime.shards(new)
    for shard in shards:
        old = Buffer(topology or runtime.topology, shard)
        yield old, targets[shard.shard % len(targets)]


def target_of(runtime: Runtime, name: str) -> Source:
    """Return a source that is to receive another one's messages.

    Raises:
        ConfigurationError: It is not configured, or not enabled.
    """
    source = runtime.settings.source(name)
    if not source.enabled:
        raise ConfigurationError(
            f"source {name!r} is not enabled, so that nothing would be delivered",
            hint="set its segment_enabled to True",
        )
    return source


def _one_buffer(old: Buffer) -> ConfigurationError:
    return ConfigurationError(
        f"source {old.source.shard_name!r} is to be moved into itself, or into a copy of itself",
        hint="move it from another server, database or namespace; a copy has its messages already",
    )


def _taken_over(old: Buffer) -> SegmentBufferError:
    return SegmentBufferError(
        f"another process has begun to move source {old.source.shard_name!r}",
        hint="leave it to that process, or repeat the command once it has ended",
    )
