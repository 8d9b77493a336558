"""The operator's transitions of a source's buffer: figures, pauses, dead letters, moves."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import replace
from uuid import uuid4

from celery_segment.buffer import bounds
from celery_segment.buffer.body import digest_of, messages_of
from celery_segment.buffer.figures import Gate, Snapshot
from celery_segment.buffer.forgetting import Found, Wanted, places_of, read_batch, read_messages
from celery_segment.buffer.groups import (
    DeadGroup,
    encode_kinds,
    group_of,
    letter_of,
    with_ungrouped,
)
from celery_segment.buffer.history import SECONDS, Period, periods_in
from celery_segment.buffer.keys import batch_key, prefix_of
from celery_segment.buffer.moving import Moving, with_record
from celery_segment.buffer.replicas import send_confirmed
from celery_segment.buffer.scripts import milliseconds, script
from celery_segment.buffer.tail import Tail
from celery_segment.buffer.topology.types import Topology
from celery_segment.buffer.types import Damaged, DeadLetter, Stale
from celery_segment.buffer.violations import Violations, decode_violations
from celery_segment.config import Source
from celery_segment.errors import BufferFull, SegmentBufferError
from celery_segment.text import one_line

__all__ = ["BufferAdmin"]

#: What receive.lua answers where Redis uses more than its share.
_NO_ROOM = -2


class BufferAdmin:
    """The operator's part of the buffer of one source, or of one shard of it.

    It raises what ``Buffer`` raises.
    """

    def __init__(self, topology: Topology, source: Source) -> None:
        self.source = source
        self._key = prefix_of(source)
        self._server = topology.server(self._key)

    def mark(self) -> int:
        """Seal the open batch and return a mark above all that is stored now."""
        return int(self._server.run(script("mark"), self._key))

    def remaining(self, mark: int) -> int:
        """Return the number of messages up to a mark that are not settled yet.

        While more than a thousand batches wait, later messages are counted too.
        """
        return int(self._server.run(script("remaining"), self._key, mark, bounds.LOOK_AT_BATCHES))

    def pause(self) -> bool:
        """Close the source until it is resumed; return False where it was paused already."""
        return bool(self._server.run(script("pause"), self._key))

    def resume(self) -> float:
        """Open the source; return the seconds for which a Retry-After still keeps it closed."""
        wait = self._server.run(script("resume"), self._key, bounds.LOOK_AT_BATCHES)
        return max(int(wait), 0) / 1000

    def dead_letters(
        self,
        after: DeadLetter | None = None,
        *,
        since: float | None = None,
        until: float | None = None,
        limit: int = 100,
        group: str | None = None,
        newest_first: bool = False,
    ) -> list[DeadLetter]:
        """Return a page of the dead letters, by default the oldest first.

        Args:
            after: The last letter of the page before.
            since: Only those buried then or later, in seconds since the epoch.
            until: Only those buried before.
            limit: The greatest number of letters.
            group: Only those of the group with this id.
            newest_first: Return the newest first.
        """
        first: str | int = "-inf" if since is None else milliseconds(since)
        final: str | int = "+inf" if until is None else f"({milliseconds(until)}"
        if after is not None:
            start = milliseconds(after.buried)
            first, final = (first, start) if newest_first else (start, final)
        last = "" if after is None else after.id
        arguments = (first, final, last, limit, group or "", int(newest_first))
        flat = self._server.run(script("dead"), self._key, *arguments)
        return [letter_of(*each) for each in zip(*[iter(flat)] * 7, strict=True)]

    def dead_groups(self) -> list[DeadGroup]:
        """Return the groups of the dead letters, and one for what is in none."""
        found: dict[str, DeadGroup] = {}
        start, limit, more = 0, bounds.LIST_GROUPS, True
        while more:
            about = self._server.run(script("groups"), self._key, start, limit)
            page = [group_of(*each) for each in zip(*[iter(about[-1])] * 6, strict=True)]
            found.update((group.id, group) for group in page)
            start, more = start + limit, len(page) == limit
        return with_ungrouped(found.values(), *about[:-1])

    def last_buried(self) -> float | None:
        """Return when the youngest dead letter was buried; None when there is none."""
        youngest = self._server.execute("ZRANGE", f"{self._key}:dead", -1, -1, "WITHSCORES")
        return float(youngest[1]) / 1000 if youngest else None

    def dead_letter(self, batch_id: str) -> DeadLetter | None:
        """Return a dead letter; None where it is none."""
        score = self._server.execute("ZSCORE", f"{self._key}:dead", batch_id)
        since, letter = float(score or 0) / 1000, None
        # Of those that were given up in the same millisecond, which are few.
        while score and (page := self.dead_letters(letter, since=since, until=since + 0.001)):
            for letter in page:
                if letter.id == batch_id:
                    return letter
        return None

    def is_dead(self, batch_id: str) -> bool:
        """Return whether a batch is a dead letter."""
        return self._server.execute("ZSCORE", f"{self._key}:dead", batch_id) is not None

    def messages(self, batch_id: str) -> list[bytes]:
        """Return a sealed batch's messages as JSON; none when there is no such batch.

        Raises:
            SegmentBufferError: They cannot be read, since what Redis holds of them is damaged.
        """
        content = self._server.execute("GET", batch_key(self.source, batch_id))
        try:
            return [bytes(part) for part in messages_of(content)] if content else []
        except Exception:  # noqa: BLE001 - of msgspec, or of the decompression
            raise SegmentBufferError(
                f"batch {batch_id} of source {self.source.shard_name!r} is damaged in Redis",
                hint="purge it, or replay it, which counts it as damaged",
            ) from None

    def replay(self, batch_ids: Iterable[str]) -> int:
        """Put dead letters back among the ready batches; return the number of messages."""
        return int(self._server.run(script("replay"), self._key, *batch_ids))

    def purge(self, batch_ids: Iterable[str]) -> int:
        """Delete dead letters; return the number of messages."""
        return int(self._server.run(script("purge"), self._key, *batch_ids))

    def batches(self) -> Iterator[str]:
        """Return the ids of all batches whose messages are stored, in the order of their bytes.

        A batch keeps its id wherever it goes, and the ids of its halves are above its own. So each
        one that is stored is found, though all of them move meanwhile: as itself, or, where it is
        split before its turn, as its halves. What is split after its turn is returned as itself.
        """
        after, key = b"-", f"{self._key}:batches"
        while page := self._server.execute(
            "ZRANGE", key, after, "+", "BYLEX", "LIMIT", 0, bounds.LIST_BATCHES
        ):
            yield from (batch_id.decode("utf-8", "replace") for batch_id in page)
            after = b"(%b" % page[-1]

    def place(self, batch_id: str) -> tuple[str, float]:
        """Return where a batch is, and how long it is left to its holder, as ``Found`` says."""
        place, left = self._server.run(script("place"), self._key, batch_id)
        return place.decode(), left / 1000

    def count_open(self, wanted: Wanted) -> int:
        """Return how many messages of the open batch are wanted.

        Raises:
            Damaged: What is stored of it cannot be read.
        """
        return len(places_of(read_messages(self._server, f"{self._key}:open")[1], wanted))

    def find(self, batch_id: str, wanted: Wanted) -> Found | None:
        """Find the wanted messages of a batch; None where nothing is stored of it.

        Args:
            batch_id: The batch's id.
            wanted: Returns whether a message is wanted.

        Raises:
            Damaged: What is stored of it cannot be read.
        """
        batch = read_batch(self._server, self.source, batch_id)
        if not batch.stored:
            return None
        count = len(places_of(batch.messages, wanted))
        found = Found(count, *self.place(batch_id)) if count else Found(0)
        return found if found.place or not count else None

    def forget(self, batch_id: str, wanted: Wanted, cause: str) -> Found | None:
        """Delete the wanted messages of a batch that waits, or is a dead letter.

        The callbacks of messages that waited are left to the next drain: their ``link_error``
        and their receipt.

        Args:
            batch_id: The batch's id.
            wanted: Returns whether a message is to be deleted.
            cause: The cause, for the callbacks.

        Returns:
            What was deleted, or what is left where the batch is under way; None where nothing is
            stored of it.

        Raises:
            Damaged: What is stored of it cannot be read.
        """
        for _ in range(bounds.FORGET_TRIES):
            batch = read_batch(self._server, self.source, batch_id)
            places = places_of(batch.messages, wanted)
            if not places:
                return Found(0) if batch.stored else None
            if batch.is_whole:
                about = (batch_id, digest_of(batch.stored), batch.size)
                arguments = (*about, *batch.without(places), cause)
                packed = struct.pack(f"<{len(places)}H", *places)
                kinds = encode_kinds(batch.kinds_at(places))
                found = self._server.run(script("forget"), self._key, *arguments, packed, *kinds)
                if place := found:
                    return Found(len(places), place.decode())
            left = Found(len(places), *self.place(batch_id))
            if left.is_under_way:
                return left
        raise Damaged

    def tail(self) -> Tail:
        """Follow what is stored from this moment on."""
        return Tail(self._server, self.source)

    def claim_ownership(self, application: str) -> str:
        """Name the source's owner, where it has none; return the owner's name."""
        state = f"{self._key}:state"
        self._server.execute("HSETNX", state, "owner", application)
        return one_line(self._server.execute("HGET", state, "owner"))

    def note_format(self, number: int) -> int:
        """Note in which format the source is stored, unless a newer one is; return which is."""
        return int(self._server.run(script("note_format"), self._key, number))

    # A move to another source, which may be in another slot of a cluster or in another Redis, is
    # a step here, one there and one here again. Each may be repeated, and changes nothing then.

    def start_move(self) -> tuple[bytes, int] | None:
        """Become the one that moves what this source holds to another one.

        Returns:
            The source's name as an origin, and the mover's number; None where nothing of the
            source is stored.
        """
        found = self._server.run(script("start_move"), self._key, uuid4().hex)
        return (found[0], found[1]) if found else None

    def next_move(self, mover: int, *, largest_dead: int) -> Moving | None:
        """Set the next batch aside, after the last one the history and the totals, and return it.

        Args:
            mover: The mover's number.
            largest_dead: Size in bytes of the largest dead letter that may be moved.

        Raises:
            Stale: Another mover has begun.
        """
        found = self._server.run(script("next_move"), self._key, mover, largest_dead)
        if found[0] < 0:
            raise Stale
        if not found[0]:
            return None
        number, what, *rest = found
        return with_record(number, what.decode(), *rest)

    def origin(self) -> bytes | None:
        """Return the name of this source as an origin; None where no move of it has begun."""
        found: bytes | None = self._server.execute("HGET", f"{self._key}:state", "origin")
        return found

    def receive(self, origin: bytes, mover: int, moving: Moving, *, share: float = 1.0) -> bool:
        """Store what another source has set aside; return False where it was stored before.

        Args:
            origin: The other source's name as an origin.
            mover: The mover's number.
            moving: What was set aside.
            share: The largest share of its ``maxmemory`` that Redis may use; 1 for all of it.

        Raises:
            Stale: Another mover has begun.
            BufferFull: Redis uses more than its share.
            BufferUnavailable: Too few replicas confirm it in time (``wait_replicas``): the other
                source is to keep it until another call is confirmed.
        """
        attachments = (*moving.callbacks, *moving.traces)
        counts = (len(moving.fields), len(moving.callbacks), bounds.MOST_GROUPS)
        about = (origin, mover, moving.number, share, moving.what, moving.content, *counts)
        receive = script("receive")
        command = receive.encode_command(self._key, *about, *moving.fields, *attachments)
        replicas = self.source.wait_replicas
        stored = send_confirmed(
            self._server, receive, command, replicas, refuses=lambda reply: reply < 0
        )
        if stored == _NO_ROOM:
            raise BufferFull(f"Redis uses more than {share:.0%} of its maxmemory")
        if stored < 0:
            raise Stale
        return bool(stored)

    def end_move(self, moving: Moving) -> None:
        """Delete what another source has received."""
        self._server.run(script("end_move"), self._key, moving.number, moving.count, moving.size)

    def remove(self) -> bool:
        """Delete what is left of a source that was moved; return False where it is not empty."""
        return bool(self._server.run(script("remove"), self._key))

    def snapshot(self) -> Snapshot:
        """Return the source's figures at this moment."""
        limits = (bounds.LOOK_AT_BATCHES, self.source.max_inflight)
        flat = self._server.run(script("snapshot"), self._key, *limits)
        found = Snapshot.of({one_line(flat[i]): flat[i + 1] for i in range(0, len(flat), 2)})
        return found if self.source.enabled else replace(found, gate=Gate("off", seconds=None))

    def violations(self) -> list[Violations]:
        """Return how messages violated the tracking plan; the most frequent first."""
        flat = self._server.execute("HGETALL", f"{self._key}:violations")
        return decode_violations(dict(zip(flat[::2], flat[1::2], strict=True)))

    def history(self, hours: float) -> list[Period]:
        """Return what was counted in each period of the last hours, the oldest first.

        Periods in which nothing was counted are included; the present one is the last.

        Args:
            hours: How many hours, at most a day.
        """
        found: list[Period] = []
        youngest: int | str = ""
        while (left := periods_in(hours) - len(found)) > 0:
            limits = (milliseconds(SECONDS), youngest, min(left, bounds.HISTORY_PERIODS))
            flat = self._server.run(script("history"), self._key, *limits)
            found += [Period.of(*each) for each in zip(*[iter(flat)] * 2, strict=True)]
            youngest = flat[-2] - 1
        return found[::-1]
