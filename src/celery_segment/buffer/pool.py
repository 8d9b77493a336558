"""Connections to one Redis: an encoded command goes out, its reply comes back.

Idle connections form a stack: taking one is a single atomic operation, for threads and
greenlets alike, and a forked child starts with none. What a call does where Redis fails:

- The connection breaks, or does not answer in time: one further try on a new one.
- Redis answers that it does not serve, such as READONLY: likewise, for a name may point to
  another server by now. All connections are closed.
- There is no answer then either: further calls fail at once, until something comes on a
  connection whose command was not answered, or ``watch`` or a caller, one a second, is answered.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from hiredis import ProtocolError

from celery_segment.buffer.address import Address
from celery_segment.buffer.answers import (
    Interrupted,
    Resting,
    Unproved,
    is_refused,
    is_unknown,
    may_have_written,
    translated,
    unanswered,
)
from celery_segment.buffer.bounds import CONTENT_BYTES
from celery_segment.buffer.connection import Connection
from celery_segment.buffer.connections import Connections
from celery_segment.buffer.rights import allow
from celery_segment.buffer.scripts import Script, encode_command
from celery_segment.buffer.watch import watch
from celery_segment.errors import BufferUnavailable

__all__ = ["Pool"]

#: Seconds for which a connection may be idle before it is asked whether it still works:
#: servers and balancers close what is idle, or forget it.
IDLE = 1.0
#: The share of the timeout that one wait may take: two stay within it.
WAIT = 0.45
#: The share of the timeout for which replicas are waited for.
CONFIRM = 0.3
#: Likewise that answer: the first caller's, and those of others at the same time.
PROOF, ANOTHER_PROOF = 1 / 4, 1 / 40
#: How a command is sent on a connection.
_How = Callable[[Connection, bytes], Any]
_ONE: _How = Connection.exchange


class Pool:
    """Connections to one Redis, each used by one caller at a time.

    Args:
        address: The server's.
        timeout: Seconds that one operation may take, connecting included.
        max_connections: Maximum number of connections. A caller beyond it waits.
        rest: Seconds between two tries while Redis does not answer in time; other callers
            fail at once. With 0 each caller tries, and waits.

    Attributes:
        is_routed: Whether another server may be in its place, and raise ``Unproved``.

    Raises:
        BufferUnavailable: Redis did not answer in time, refused the connection,
            or is not in a state to serve.
        BufferFull: Redis is above its ``maxmemory``.
        SegmentBufferError: Redis answered with any other error.
    """

    def __init__(
        self,
        address: Address,
        timeout: float,
        *,
        max_connections: int = 50,
        rest: float = 0.0,
    ) -> None:
        from redis import exceptions  # loaded with the first pool, not with the library

        self._errors = exceptions
        self._limit, self._rest = max_connections, rest
        self._connections = Connections(max_connections, rest, address.waits)
        self.is_routed = False
        self._server, self.address = address, str(address)
        self.set_timeout(timeout)

    def __repr__(self) -> str:
        return f"Pool({self.address!r})"

    def run(
        self, script: Script, key: str, *arguments: str | bytes | float, once: bool = False
    ) -> Any:
        """Run a script on one key and return its reply."""
        return self.send(script, script.encode_command(key, *arguments), once=once)

    def send(self, script: Script, command: bytes, *, once: bool = False) -> Any:
        """Send an encoded call of ``script`` and return its reply.

        Where Redis does not know the script (it was restarted, or its cache flushed) the
        script is loaded and the call, which had no effect, repeated. A call that may be
        carried out ``once`` only is not repeated when its connection breaks:
        ``Interrupted`` is raised.
        """
        if script.name not in self._connections.allowed:
            allow(self, self._own().allowed, script, command)
        reply = self._exchange(command, once=once)
        if isinstance(reply, Exception):
            if is_unknown(reply):
                reply = self._exchange(command, how=self._loading(script), once=once)
            return self._unless_error(reply)
        return reply

    def send_and_wait(
        self, script: Script, command: bytes, replicas: int, *, once: bool = False
    ) -> tuple[Any, int]:
        """Send an encoded call of ``script``, and wait until replicas have what it wrote.

        Returns:
            The reply; how many replicas have confirmed it in time.
        """
        longest = round(self._timeout * CONFIRM * 1000)
        both = command + encode_command("WAIT", replicas, longest)
        reply, confirmed = self._send_two(script, both, Connection.exchange_confirmed, once=once)
        return reply, confirmed

    def run_and_get(self, script: Script, command: bytes, key: str) -> tuple[list[int], Any]:
        """Send an encoded call that returns integers, and get a key's content, in one round trip.

        The call may be carried out twice. The content is bytes or a memoryview, cut off where it
        is longer than any batch.
        """
        both = command + encode_command("GETRANGE", key, 0, CONTENT_BYTES)
        return self._send_two(script, both, Connection.exchange_bulk)

    def run_all(self, script: Script, commands: Sequence[bytes]) -> list[Any]:
        """Send encoded calls of a script in one round trip.

        Returns:
            The reply of each; a ``SegmentBufferError`` where it is one.
        """
        if script.name not in self._connections.allowed:
            allow(self, self._own().allowed, script, commands[0])
        replies = self._exchange_many(commands)
        if any(is_unknown(reply) for reply in replies):
            again = [c for c, reply in zip(commands, replies, strict=True) if is_unknown(reply)]
            repeated = iter(self._exchange_many(again, script))
            replies = [next(repeated) if is_unknown(reply) else reply for reply in replies]
        return [
            translated(reply, self.address) if isinstance(reply, Exception) else reply
            for reply in replies
        ]

    def execute(self, *arguments: str | bytes | float, once: bool = False) -> Any:
        """Run a plain command and return its reply; ``once`` as for ``send``."""
        return self._unless_error(self._exchange(encode_command(*arguments), once=once))

    @property
    def is_resting(self) -> bool:
        """Whether Redis did not answer in time, and is not asked for a while."""
        return self._own().is_resting

    def set_timeout(self, timeout: float) -> None:
        """Change the timeout, in seconds; connections that are idle are closed."""
        self._timeout = timeout
        self._own().close()

    def close(self) -> None:
        """Close the idle connections, and those in use after their present command."""
        (own := self._own()).close()
        own.end_rest()

    def _send_two(
        self, script: Script, commands: bytes, how: _How, *, once: bool = False
    ) -> tuple[Any, Any]:
        """Send a call of a script and another command; return the replies of both."""
        if script.name not in self._connections.allowed:
            allow(self, self._own().allowed, script, commands)
        one, two = self._exchange(commands, how=how, once=once)
        if is_unknown(one):
            one, two = self._exchange(commands, how=self._loading(script, how), once=once)
        return self._unless_error(one), self._unless_error(two)

    def _loading(self, script: Script, how: _How = _ONE) -> _How:
        """Return how to send a command after a script that Redis does not know.

        On the same connection: during a failover another one may lead to another server.
        """
        load = encode_command("SCRIPT", "LOAD", script.text)

        def load_and_send(connection: Connection, command: bytes) -> Any:
            loaded = connection.exchange(load)
            if isinstance(loaded, Exception):
                raise translated(loaded, self.address)
            return how(connection, command)

        return load_and_send

    def _exchange(
        self, command: bytes, *, how: _How = _ONE, once: bool = False, began: float = 0.0
    ) -> Any:
        """Send a command and return its reply; ``began`` is given for the second try."""
        own = self._connections
        if own.pid != os.getpid():
            own = self._own()
        now = time.monotonic()
        if own.is_resting and not (began or own.is_to_try(now)):
            raise Resting.at(self.address)
        is_sent = False
        try:
            connection, used = self._take(own, now, began or now)
            is_sent = True
            try:
                reply = how(connection, command)
            except BaseException as error:
                # An unread reply would be taken for that of the next command.
                own.give_up(connection, error)
                if not used or not isinstance(error, OSError):
                    raise
                # A server that was restarted, or a connection that was forgotten, is an
                # ordinary event: a new connection tells it from an outage.
                own.close()
                if once:
                    raise Interrupted.by(error, self.address) from None
                if began:
                    raise
                return self._exchange(command, how=how, began=now)
        except (OSError, ValueError, ProtocolError, self._errors.RedisError) as error:
            self._note(own, began or now)
            raise unanswered(error, self._errors, self.address, is_sent=is_sent) from None
        if reply and is_refused(reply):
            own.discard(connection)
            own.close()
            if began or (once and may_have_written(reply)):
                return reply
            return self._exchange(command, how=how, once=once, began=now)
        self._give_back(own, connection, used=used)
        return reply

    def _exchange_many(self, commands: Sequence[bytes], load: Script | None = None) -> list[Any]:
        how: _How = partial(Connection.exchange_many, count=len(commands))
        how = self._loading(load, how) if load else how
        replies: list[Any] = self._exchange(b"".join(commands), how=how)
        return replies

    def _give_back(self, own: Connections, connection: Connection, *, used: bool) -> None:
        """Keep a connection on which Redis has answered."""
        connection.since = now = time.monotonic()
        if not used:
            connection.set_timeout(self._timeout * WAIT)
        if own.is_resting or now > own.ages_at:
            own.end_rest()
            own.age(now)
        if connection.generation != own.generation:
            own.discard(connection)
            return
        own.idle.append(connection)
        if own.waiters:
            own.serve()

    def _own(self) -> Connections:
        """Return the connections of this process."""
        # Not by os.register_at_fork: uWSGI forks in C. The parent's sockets are not closed,
        # which TLS would tell the other end.
        if self._connections.pid != os.getpid():
            self._connections = Connections(self._limit, self._rest, self._server.waits)
        return self._connections

    def _take(self, own: Connections, now: float, began: float) -> tuple[Connection, bool]:
        """Return a connection, and whether it was used before."""
        try:
            connection: Connection | None = own.idle.pop()
        except IndexError:
            connection = self._wait(own)
        if connection is not None and now - connection.since <= IDLE:
            return connection, True
        try:
            if connection is not None and self._is_proved(own, connection):
                return connection, True
            # A call may find its connection broken, connect, and send again: waits on the
            # network that together stay within the timeout.
            left = began + self._timeout - time.monotonic()
            return self._connect(max(left * WAIT, 0.001), own.generation), False
        except BaseException:
            own.free()
            raise

    def _wait(self, own: Connections) -> Connection | None:
        """Return a connection that was given back, or None where one may be made."""
        rested = own.is_resting
        try:
            found = own.wait(self._timeout * WAIT)
        except TimeoutError:
            raise BufferUnavailable(
                f"all {self._limit} connections to Redis at {self.address} are in use",
                hint="raise segment_redis_max_connections",
            ) from None
        if found is None and own.is_resting and not rested:  # meanwhile, as those before it found
            own.free()
            raise Resting.at(self.address)
        return found

    def _is_proved(self, own: Connections, connection: Connection) -> bool:
        """Return whether an idle connection still works; if not, close it and the others."""
        first = not own.proving
        own.proving = True
        try:
            if connection.is_alive(self._timeout * (PROOF if first else ANOTHER_PROOF)):
                return True
        finally:
            if first:
                own.proving = False
        own.close()  # the others are no younger
        if self.is_routed:
            raise Unproved.at(self.address)
        return False

    def _connect(self, seconds: float | None = None, generation: int = 0) -> Connection:
        """Connect; neither this nor a reply may then take longer than so many seconds."""
        connection = self._server.connection(seconds or self._timeout * WAIT)
        try:
            return Connection(connection, generation)
        except (OSError, ValueError, ProtocolError, self._errors.RedisError):
            raise
        except Exception as error:  # noqa: BLE001 - a credential provider's
            # Its text may hold a secret.
            raise ConnectionError(f"credential_provider raises {type(error).__name__}") from None

    def _unless_error(self, reply: Any) -> Any:
        if isinstance(reply, Exception):
            raise translated(reply, self.address) from None
        return reply

    def _note(self, own: Connections, began: float) -> None:
        """Rest after a failure that took time; a refused connection takes none."""
        now = time.monotonic()
        if now - began > self._timeout / 4:
            own.rest(now)
            if own.is_resting:
                watch(own, self._connect, self._timeout * WAIT)
        else:
            own.end_rest()
