"""One source's buffer: a method per transition of its batches.

What each transition does to which keys is written on top of its Lua file; ``keys`` says
what the keys hold. The operator's transitions are in ``admin``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from secrets import token_hex
from typing import Any

from celery_segment.buffer import bounds
from celery_segment.buffer.admin import BufferAdmin
from celery_segment.buffer.appends import Appends
from celery_segment.buffer.body import (
    compressed,
    decompressed,
    digest_of,
    first_half,
    is_compressed,
    is_intact,
)
from celery_segment.buffer.due import encode_due
from celery_segment.buffer.groups import Grouped
from celery_segment.buffer.keys import batch_key, prefix_of
from celery_segment.buffer.latency import BOUNDS
from celery_segment.buffer.leases import lease_of, repaired, settled_of, unless_stale
from celery_segment.buffer.rights import WORKER, check_rights
from celery_segment.buffer.scripts import milliseconds, script
from celery_segment.buffer.topology.types import Topology
from celery_segment.buffer.types import (
    BatchRef,
    Busy,
    Damaged,
    DeadLettersFull,
    Gone,
    Lease,
    LeasedElsewhere,
    Settled,
    SourceClosed,
)
from celery_segment.config import Source
from celery_segment.text import one_line

__all__ = ["Buffer"]

#: What split.lua answers where another content is stored than the holder has read.
_NOT_ITS_MESSAGES = -2


class Buffer:
    """The buffer of one source, or of one shard of it.

    Its methods raise ``BufferUnavailable``, ``BufferFull`` or ``SegmentBufferError``
    as ``Pool`` does, and ``Stale`` where a holder's token is refused.

    Attributes:
        source: The source, as one of its shards (``Source.split``).
        admin: The operator's transitions.
    """

    def __init__(self, topology: Topology, source: Source) -> None:
        self.source = source
        self.admin = BufferAdmin(topology, source)
        self._key = prefix_of(source)
        self._server = topology.server(self._key)
        appends = Appends(self._server, source, topology.waits)
        # Bound here, so that a call takes no step in between.
        self.append, self.append_many = appends.append, appends.append_many
        self.append_part, self.count_dropped = appends.append_part, appends.count_dropped
        self.quarantine, self.count_violations = appends.quarantine, appends.count_violations

    def __repr__(self) -> str:
        return f"Buffer({self.source.shard_name!r}, {self._server!r})"

    def check_rights(self) -> None:
        """Raise ``RightsMissing`` where the user may not do all that a worker does."""
        check_rights(self._server, self._key, WORKER)

    # ------------------------------------------------------------ draining

    def claim(self, limit: int, *, stint: float = 0.0) -> list[BatchRef]:
        """Take up to ``limit`` batches into flight, the open batch among them.

        Before them comes one that was claimed some time ago and whose delivery has not begun.

        No more are in flight than the endpoint's answers allow, ``max_inflight`` at most. The
        caller begins with the first; the others wait for ``take`` or ``claim_next``.

        Args:
            limit: The greatest number of batches.
            stint: Seconds for which one process delivers: no more batches are claimed than
                so many processes are needed for; 0 for as many as may be.
        """
        return self._claim(limit, stint, continues=0, begins=1)

    def claim_next(self, limit: int, *, stint: float = 0.0, begins: bool = True) -> list[BatchRef]:
        """Return batches for a delivery that has time for another one.

        That is a batch which was claimed before and waits; where there is none, up to
        ``limit`` ready ones that are claimed now, as ``claim`` does.

        Args:
            limit: The greatest number of batches that are claimed now.
            stint: As for ``claim``.
            begins: Whether the caller begins with the first. If not, that one waits, too: where
                it waited before, for the first of two tasks.
        """
        return self._claim(limit, stint, continues=1, begins=int(begins))

    def take(self, batch_id: str) -> bool:
        """Return whether a claimed batch still waited for a delivery; no other takes it now."""
        return bool(self._server.run(script("take"), self._key, batch_id))

    def _claim(self, limit: int, stint: float, continues: int, begins: int) -> list[BatchRef]:
        s = self.source
        most = min(limit, bounds.CLAIM_BATCHES)
        lease, stint, begin = map(milliseconds, (s.lease, stint, bounds.BEGIN))
        limits = (s.max_inflight, most, lease, stint, continues, begins, begin, int(s.ordered))
        flat = self._server.run(script("claim"), self._key, *limits, once=True)
        return [
            BatchRef(one_line(i), n, size) for i, n, size in zip(*[iter(flat)] * 3, strict=True)
        ]

    def release(self, batch_id: str, token: str = "") -> bool:
        """Give a claimed batch back, since this process does not deliver it.

        Args:
            batch_id: The batch's id.
            token: The holder's token, where a delivery has begun.

        Returns:
            False where it is not in flight, or another process delivers it.
        """
        return bool(self._server.run(script("release"), self._key, batch_id, token))

    def reap(self) -> tuple[int, bool]:
        """Put batches back whose worker, or the task message of whose retry, is gone.

        Returns:
            Their number; whether ``uncalled`` has some, too.
        """
        overdue = milliseconds(bounds.OVERDUE)
        taken, uncalled = self._server.run(script("reap"), self._key, overdue, bounds.REAP_BATCHES)
        return taken, bool(uncalled)

    def expire_dead(self) -> int:
        """Delete some dead letters older than the source keeps them; return their messages."""
        if self.source.dead_retention is None:
            return 0
        limits = (milliseconds(self.source.dead_retention), bounds.EXPIRE_BATCHES)
        return int(self._server.run(script("expire"), self._key, *limits))

    def due(self, shortest: float, *, look: bool = True, unsure: bool = False) -> bool:
        """Return whether a drain is due: True for one caller, until that drain has begun.

        The arguments are those of ``encode_due``.
        """
        command = encode_due(self.source, shortest, look=look, unsure=unsure)
        return bool(self._server.send(script("due"), command))

    # ------------------------------------------------------------ delivering

    def begin(
        self, batch_id: str, token: str
    ) -> Lease | Gone | LeasedElsewhere | SourceClosed | Busy:
        """Become the holder of a claimed batch for one attempt, and read its messages."""
        begin, lease = script("begin"), milliseconds(self.source.lease)
        limits = (lease, self.source.max_inflight, int(self.source.ordered))
        command = begin.encode_command(self._key, batch_id, token, *limits)
        key = batch_key(self.source, batch_id)
        (verdict, *rest), content = self._server.run_and_get(begin, command, key)
        match verdict:
            case 1:
                found = lease_of(batch_id, token, content, rest)
                return found if found.count else repaired(self._server, self._key, found)
            case -1:
                return LeasedElsewhere()
            case -2:
                return SourceClosed(None if rest[0] < 0 else rest[0] / 1000)
            case -3:
                return Busy(rest[0])
            case _:
                return Gone()

    def traces(self, lease: Lease) -> list[bytes]:
        """Return the trace contexts of a batch's calls: at most 128."""
        key = f"{self._key}:traces:{lease.id}"
        return list(self._server.execute("HVALS", key)) if lease.traces else []

    # Each settles the batch and, in the same step, counts the attempt under ``status``: that of
    # the answer, or the kind of failure; "" when no request was made. ``seconds`` is how long
    # the request took, by which the number of concurrent requests adapts.

    def ack(self, lease: Lease, status: str = "", seconds: float = 0.0) -> Settled | None:
        """Settle a delivered batch; return it if there are callbacks to run for it."""
        hooked = self.source.on_delivered is not None
        limits = (milliseconds(self.source.lease), milliseconds(seconds), self.source.max_inflight)
        reply = self._settle("ack", lease, status, int(hooked), *limits, BOUNDS)
        return settled_of(lease, "delivered", None, hooked, reply)

    def retry(
        self,
        lease: Lease,
        what: str,
        wait: float,
        cause: str,
        status: str = "",
        seconds: float = 0.0,
        *,
        breaker: tuple[int, float, float],
    ) -> tuple[float, int]:
        """Have a batch wait for its next attempt.

        Args:
            lease: The batch.
            what: "failure", "own", "doubtful", "asked" or "refused", as retry.lua says.
            wait: The least number of seconds until the next attempt.
            cause: The cause, for people.
            status: What the attempt is counted under.
            seconds: How long the request took.
            breaker: Failures in a row that trip the breaker; first and longest pause.

        Returns:
            Seconds until the next attempt; how often in a row the breaker tripped, when
            this failure tripped it, else 0.
        """
        trip, first, longest = breaker
        limits = (milliseconds(seconds), trip, milliseconds(first), milliseconds(longest))
        reply = self._settle("retry", lease, status, what, milliseconds(wait), *limits, cause)
        unless_stale(reply[0])
        return reply[0] / 1000, reply[1]

    def split(self, lease: Lease, status: str = "", *, answered: bool = True) -> None:
        """Put a batch's two halves back in its place.

        Args:
            lease: The batch.
            status: What the attempt is counted under.
            answered: Whether the endpoint answered to its content, and so is not failing.

        Raises:
            Damaged: Its content cannot be read.
        """
        try:
            half = first_half(lease.body)
        except Exception:  # noqa: BLE001 - of msgspec, or of zlib or ISA-L
            raise Damaged from None
        # The script cuts what it finds; it cannot decompress.
        content = (bytes(decompressed(lease.body)),) if is_compressed(lease.body) else ()
        arguments = (*half, int(answered))
        reply = self._settle("split", lease, status, *arguments, *content)
        if reply == _NOT_ITS_MESSAGES and is_intact(lease.body, lease.size):
            # What is stored was harmed since; what the holder has read was not.
            own = bytes(decompressed(lease.body))
            reply = self._settle("split", lease, status, *arguments, own)
        if reply == _NOT_ITS_MESSAGES:
            raise Damaged
        unless_stale(reply)

    def bury(
        self,
        lease: Lease,
        cause: str,
        text: str = "",
        status: str = "",
        *,
        answered: bool,
        grouped: Grouped | None = None,
    ) -> Settled | None:
        """Make a batch a dead letter; return it if there are callbacks to run for it.

        Args:
            lease: The batch.
            cause: Why it is given up, for people.
            text: The endpoint's own words, stored with the dead letter alone.
            status: What the attempt is counted under.
            answered: Whether the endpoint answered, and so is not failing.
            grouped: The groups of its messages; by default that of its cause alone.

        Raises:
            DeadLettersFull: The dead letters have no room for it.
        """
        hooked = self.source.on_failed is not None
        reason = f"{cause}: {text}" if text else cause
        bound = self.source.max_dead_bytes
        limits = (int(answered), bound, int(hooked), milliseconds(self.source.lease))
        groups = (grouped or Grouped(cause)).encode(lease.count)
        reply = self._settle("bury", lease, status, reason, *limits, cause, *groups)
        if reply[0] == -2:  # noqa: PLR2004 - as bury.lua says
            raise DeadLettersFull
        return settled_of(lease, "dead", cause, hooked, reply)

    def damage(self, lease: Lease, cause: str) -> Settled | None:
        """Settle a batch that is damaged; return it if there are callbacks to run for it."""
        hooked = self.source.on_failed is not None
        arguments = (lease.id, lease.token, milliseconds(self.source.lease), cause, int(hooked))
        reply = self._server.run(script("damage"), self._key, *arguments, once=True)
        return settled_of(lease, "damaged", cause, False, reply)

    def _settle(self, transition: str, lease: Lease, *arguments: str | bytes | int) -> Any:
        held = (self._key, lease.id, lease.token)
        return self._server.run(script(transition), *held, *arguments, once=True)

    # ------------------------------------------------------------ callbacks

    def uncalled(self) -> Iterator[Settled]:
        """Take over settled batches whose worker has not run their callbacks in time."""
        lease = milliseconds(self.source.lease)
        for _ in range(bounds.UNCALLED_BATCHES):
            found = self._server.run(script("uncalled"), self._key, lease, token := token_hex(8))
            if not found:
                return
            name, batch, count, size, why, body, own, reported = found
            about = (name.decode(), one_line(batch), token, one_line(why) or None)
            yield Settled(*about, tuple(own), body, count, size, reported=bool(reported))

    def called(
        self, settled: Settled, left: Sequence[bytes] = (), *, hook_is_left: bool = False
    ) -> None:
        """Forget a settled batch whose callbacks have run, but for those that run again.

        Args:
            settled: The batch. Nothing is changed where another has taken its callbacks over.
            left: The callbacks of messages to run again, once its lease expires.
            hook_is_left: Whether to run the source's own callback again.
        """
        held = (self._key, settled.name, settled.token)
        self._server.run(script("called"), *held, int(hook_is_left), *left)

    def count_refused(self, count: int) -> None:
        """Count callbacks that were not run, since they are not to be trusted."""
        self._server.execute("HINCRBY", f"{self._key}:stats", "refused_callbacks", count)

    # ------------------------------------------------------------ compression

    def compressible(self) -> list[str]:
        """Return ids of batches of a backlog that are not compressed yet, the oldest first."""
        limits = (bounds.BACKLOG, bounds.STORED_BATCHES, bounds.COMPRESSIBLE_BATCHES)
        found = self._server.run(script("compressible"), self._key, *limits)
        return [batch_id.decode() for batch_id in found]

    def compress(self, batch_id: str) -> bool:
        """Compress a ready batch in its place; return whether it was there to be compressed."""
        content = self._server.execute("GET", batch_key(self.source, batch_id))
        plain = bool(content) and not is_compressed(content)
        # Also where there is nothing to do: ``compressible`` is not to return it again.
        arguments = (digest_of(content), compressed(content)) if plain else ("", b"")
        return bool(self._server.run(script("compress"), self._key, batch_id, *arguments))
