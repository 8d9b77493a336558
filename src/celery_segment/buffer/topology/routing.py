"""Find the server that has a key now, and find it again when it does not serve.

A ``Router`` knows which server has which slots, as the servers, or Sentinels, say; behind
Sentinels, the primary has all of them. It asks again when a command was refused or not answered:
the server may be demoted, gone, or without the slot. Where the answer is the same server still,
the command fails as on a single server. Where it is another one, the command is sent there,
unless it may have been carried out already and must not be twice.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from celery_segment.aio.waits import BLOCKING, Lock, Waits
from celery_segment.buffer.address import Address
from celery_segment.buffer.answers import Elsewhere, Unproved
from celery_segment.buffer.pool import Pool
from celery_segment.buffer.scripts import Script
from celery_segment.errors import BufferUnavailable, SegmentBufferError

__all__ = ["Limits", "Range", "Router"]

#: The share of the timeout that one look at the servers may take, and the share after which a
#: failed command is not sent to another server: the caller has waited long enough.
LOOK, LATE = 0.3, 0.6
#: Seconds between two looks while the answer is the same; while there is none, up to the second.
AGAIN, SILENT = 0.1, 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of connections.

    Attributes:
        timeout: Seconds that one operation may take, connecting included.
        max_connections: Maximum number of connections to one server.
        rest: Seconds between two tries while a server does not answer in time.
        waits: How those wait who use them.
    """

    timeout: float
    max_connections: int
    rest: float
    waits: Waits = field(default=BLOCKING, repr=False)

    def pool(self, address: Address) -> Pool:
        """Return connections to a server."""
        return Pool(address, self.timeout, max_connections=self.max_connections, rest=self.rest)

    def routed_pool(self, address: Address) -> Pool:
        """Return connections to a server in whose place another one may be by now."""
        pool = self.pool(address)
        pool.is_routed = True
        return pool


class Range(NamedTuple):
    """Slots that one server has."""

    first: int
    last: int
    host: str
    port: int


class Look(Protocol):
    """Asks which server has which slots now."""

    def __call__(self, seconds: float, first: str = "") -> Sequence[Range]:
        """Return what the servers say.

        Args:
            seconds: How long to wait, in all.
            first: The address of the server to ask first, if it can be asked.

        Raises:
            BufferUnavailable: None answered.
        """


class Router:
    """Servers that may change, as far as they are known.

    Args:
        kind: What they are, for people.
        address: Where they are, for people.
        look: Asks which server has which slots.
        slot_of: Returns the slot of a key.
        server: How to connect to any of the servers.
        limits: The limits of the connections to each.

    Attributes:
        changes: How often it was found that other servers have the slots.
    """

    def __init__(
        self,
        kind: str,
        address: str,
        look: Look,
        slot_of: Callable[[str], int],
        server: Address,
        limits: Limits,
    ) -> None:
        self.kind, self.address, self.database = kind, address, server.database
        self._look, self._slot_of, self._server = look, slot_of, server
        self._limits, self.waits = limits, limits.waits
        self._ranges: Sequence[Range] = ()
        self._pools: dict[tuple[str, int], Pool] = {}
        self._pid, self._own_lock = os.getpid(), limits.waits.lock()
        self._failure, self.changes = ("", ""), 0
        self._looks_from, self._looked_at, self._silent = 0.0, 0.0, AGAIN

    def __repr__(self) -> str:
        return f"Router({self.kind!r}, {self.address!r})"

    @property
    def timeout(self) -> float:
        """Seconds that one operation may take."""
        return self._limits.timeout

    def server(self, key: str) -> RoutedServer:
        """Return what sends commands to the server that has a key, wherever that is."""
        return RoutedServer(self, self._slot_of(key))

    def servers(self) -> Sequence[Pool]:
        """Return the connections to each server that has slots."""
        if not self._pools:
            self.pool_of(0)
        return list(self._pools.values())

    def run_each(
        self, script: Script, commands: Mapping[str, bytes]
    ) -> dict[str, Any | SegmentBufferError]:
        """Send encoded calls of a script, each to the server that has its key."""
        began = time.monotonic()
        keys: dict[Pool, list[str]] = {}
        replies: dict[str, Any | SegmentBufferError] = {}
        failures: list[SegmentBufferError] = []
        for key in commands:
            pool = self._pool_or_error(key)
            if isinstance(pool, Pool):
                keys.setdefault(pool, []).append(key)
            else:  # the other slots have servers all the same
                failures.append(pool)
                replies[key] = pool
        for pool, own in keys.items():
            try:
                found = pool.run_all(script, [commands[key] for key in own])
            except SegmentBufferError as error:
                failures.append(error)
                found = [error] * len(own)
            replies.update(zip(own, found, strict=True))
            for key, reply in zip(own, found, strict=True):
                if isinstance(reply, BufferUnavailable):
                    self.instead_of(pool, self._slot_of(key), began, reply)
                    break
        if failures and all(reply in failures for reply in replies.values()):
            raise failures[0]
        return replies

    def _pool_or_error(self, key: str) -> Pool | BufferUnavailable:
        try:
            return self.pool_of(self._slot_of(key))
        except BufferUnavailable as error:
            return error

    def set_timeout(self, timeout: float) -> None:
        """Change the timeout."""
        self._limits = replace(self._limits, timeout=timeout)
        for pool in list(self._pools.values()):
            pool.set_timeout(timeout)

    def close(self) -> None:
        """Close the connections."""
        for pool in list(self._pools.values()):
            pool.close()

    # ------------------------------------------------------------ who has a slot

    def pool_of(self, slot: int) -> Pool:
        """Return the connections to the server that has a slot, as far as it is known.

        Raises:
            BufferUnavailable: It is not known.
        """
        found = self._known(slot)
        if found is None:
            with self._lock:
                found = self._known(slot)
                if found is None:
                    if time.monotonic() < self._looks_from:
                        problem, hint = self._failure
                        raise BufferUnavailable(problem, hint=hint)
                    self._look_up()
                    found = self._known(slot)
        if found is None:
            self._looks_from = max(self._looks_from, time.monotonic() + AGAIN)
            self._failure = (
                f"no server of the {self.kind} at {self.address} has slot {slot}",
                "check the servers, and segment_redis_url",
            )
            problem, hint = self._failure
            raise BufferUnavailable(problem, hint=hint)
        return found

    def instead_of(
        self, failed: Pool, slot: int, began: float, error: BufferUnavailable
    ) -> Pool | None:
        """Return the connections to the server that has a slot in place of one that failed.

        Args:
            failed: The connections on which a command failed.
            slot: The slot.
            began: When the command began.
            error: How it failed.

        Returns:
            None where it is the same server, or none is known.
        """
        # Where the server was not asked, since it does not answer, no caller waits for another.
        wait = 0 if failed.is_resting else self.timeout * LOOK
        lock = self._lock
        if not lock.acquire(timeout=wait):
            return None
        try:
            if self._known(slot) is failed and self._looked_at < began:
                if time.monotonic() < self._looks_from:
                    return None
                # One that leaves a slot to another is the first to know to which.
                self._look_up(failed.address if isinstance(error, Elsewhere) else "")
                if self._known(slot) is failed:
                    self._looks_from = time.monotonic() + AGAIN
                    self._failure = error.problem, error.hint
        except BufferUnavailable:
            return None
        finally:
            lock.release()
        found = self._known(slot)
        return None if found is failed else found

    def _look_up(self, first: str = "") -> None:
        try:
            ranges = self._look(self.timeout * LOOK, first)
        except BufferUnavailable as error:
            self._looks_from = time.monotonic() + self._silent
            self._silent = min(2 * self._silent, SILENT)
            self._failure = error.problem, error.hint
            raise
        finally:
            self._looked_at = time.monotonic()
        self._silent = AGAIN
        at = {(each.host, each.port) for each in ranges}
        gone = [self._pools.pop(address) for address in self._pools.keys() - at]
        for address in at - self._pools.keys():
            self._pools[address] = self._limits.routed_pool(self._server.at(*address))
        if self._ranges != sorted(ranges):
            self._ranges = sorted(ranges)
            self.changes += 1
        for pool in gone:
            pool.close()

    def _known(self, slot: int) -> Pool | None:
        for each in self._ranges:
            if each.first <= slot <= each.last:
                return self._pools.get((each.host, each.port))
        return None

    @property
    def _lock(self) -> Lock:
        # Another thread may hold it while this process is forked.
        if self._pid != os.getpid():
            self._pid, self._own_lock = os.getpid(), self._limits.waits.lock()
        return self._own_lock


class RoutedServer:
    """The server that has a slot, wherever that is.

    Args:
        router: Knows which it is.
        slot: The slot.
    """

    __slots__ = ("_changes", "_pool", "_router", "_slot")

    def __init__(self, router: Router, slot: int) -> None:
        self._router, self._slot = router, slot
        self._pool: Pool | None = None
        self._changes = 0

    def __repr__(self) -> str:
        return f"RoutedServer({self._router!r}, {self._slot})"

    @property
    def address(self) -> str:
        """The address of the server; that of the topology while the server is not known."""
        return self._pool.address if self._pool else self._router.address

    def run(
        self, script: Script, key: str, *arguments: str | bytes | float, once: bool = False
    ) -> Any:
        """Run a script on one key and return its reply."""
        return self._follow(Pool.send, script, script.encode_command(key, *arguments), once=once)

    def send(self, script: Script, command: bytes, *, once: bool = False) -> Any:
        """Send an encoded call of a script and return its reply."""
        return self._follow(Pool.send, script, command, once=once)

    def send_and_wait(
        self, script: Script, command: bytes, replicas: int, *, once: bool = False
    ) -> tuple[Any, int]:
        """Send an encoded call of a script, and wait until replicas have what it wrote."""
        arguments = (script, command, replicas)
        reply: tuple[Any, int] = self._follow(Pool.send_and_wait, *arguments, once=once)
        return reply

    def run_and_get(self, script: Script, command: bytes, key: str) -> tuple[list[int], Any]:
        """Send an encoded call that returns integers, and get a key's content."""
        found: tuple[list[int], Any] = self._follow(Pool.run_and_get, script, command, key)
        return found

    def execute(self, *arguments: str | bytes | float, once: bool = False) -> Any:
        """Run a plain command and return its reply."""
        return self._follow(Pool.execute, *arguments, once=once)

    def _follow(self, operation: Callable[..., Any], *arguments: Any, **options: bool) -> Any:
        began = time.monotonic()
        pool = self._pool
        if pool is None or self._changes != self._router.changes:
            # What a command for another slot found out holds for this one, too.
            pool = self._pool = self._router.pool_of(self._slot)
            self._changes = self._router.changes
        try:
            return operation(pool, *arguments, **options)
        except BufferUnavailable as error:
            other = self._router.instead_of(pool, self._slot, began, error)
            if other is None and isinstance(error, Unproved):
                other = pool
            if other is None:
                raise
            self._pool = other
            is_late = time.monotonic() - began > self._router.timeout * LATE
            if is_late or (error.unknown and options.get("once")):
                raise
        return operation(other, *arguments, **options)
