"""Connections to one Redis: an encoded command goes out, its reply comes back.

Idle connections form a stack: taking one is a single atomic operation, for threads and
greenlets alike, and a forked child starts with none.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from hiredis import ProtocolError

from celery_segment.buffer.answers import translated
from celery_segment.buffer.connection import Connection
from celery_segment.buffer.scripts import Script, encode_command
from celery_segment.errors import BufferUnavailable, ConfigurationError

__all__ = ["Interrupted", "Pool", "load_client"]

#: Seconds for which a connection may be idle before it is looked at: servers and
#: balancers close what is idle.
IDLE = 1.0


def load_client() -> None:
    """Import redis-py ahead of the first call: it takes 50 to 150 ms, and opens no connection."""
    import redis  # noqa: F401


class Interrupted(BufferUnavailable):
    """The connection broke between a command and its reply: it may have been carried out."""


class Pool:
    """Connections to one Redis, each used by one caller at a time.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        timeout: Seconds that one operation may take, connecting included.

    Raises:
        ConfigurationError: The URL is not understood.
        BufferUnavailable: Redis did not answer in time, refused the connection,
            or is not in a state to serve.
        BufferFull: Redis is above its ``maxmemory``.
        SegmentBufferError: Redis answered with any other error.
    """

    def __init__(self, url: str, timeout: float) -> None:
        # redis-py is loaded with the first pool, not with the library.
        from redis import ConnectionPool, exceptions
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self._errors = exceptions
        self._idle: deque[tuple[Connection, float]] = deque()
        self._pid = os.getpid()
        try:
            pool = ConnectionPool.from_url(
                url, retry=Retry(NoBackoff(), 0), protocol=2, health_check_interval=0
            )
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"segment_redis_url is not understood: {error}") from None
        self._connection_class = pool.connection_class
        self._connection_kwargs = kwargs = pool.connection_kwargs
        self.set_timeout(timeout)
        self.address: str = (
            kwargs.get("path") or f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"
        )

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
        reply = self._exchange(command, once=once)
        if isinstance(reply, Exception):
            self._load(script, reply)
            reply = self._unless_error(self._exchange(command, once=once))
        return reply

    def run_and_get(self, script: Script, command: bytes, key: str) -> tuple[list[int], Any]:
        """Send an encoded call that returns integers, and get a key's content, in one round trip.

        The call may be carried out twice. The content is None, bytes or a memoryview.
        """
        both = command + encode_command("GET", key)
        reply, content = self._exchange(both, bulk=True)
        if isinstance(reply, Exception):
            self._load(script, reply)
            reply, content = self._exchange(both, bulk=True)
        return self._unless_error(reply), self._unless_error(content)

    def run_all(self, script: Script, commands: Sequence[bytes]) -> list[Any]:
        """Send encoded calls of a script in one round trip.

        Returns:
            The reply of each; a ``SegmentBufferError`` where it is one.
        """
        together = b"".join(commands)
        replies = self._exchange(together, count=len(commands))
        if any(_is_unknown(reply) for reply in replies):
            self.execute("SCRIPT", "LOAD", script.text)
            again = [c for c, reply in zip(commands, replies, strict=True) if _is_unknown(reply)]
            repeated = iter(self._exchange(b"".join(again), count=len(again)))
            replies = [next(repeated) if _is_unknown(reply) else reply for reply in replies]
        return [
            translated(reply, self.address) if isinstance(reply, Exception) else reply
            for reply in replies
        ]

    def execute(self, *arguments: str | bytes | float) -> Any:
        """Run a plain command and return its reply."""
        return self._unless_error(self._exchange(encode_command(*arguments)))

    def set_timeout(self, timeout: float) -> None:
        """Change the timeout, in seconds, for connections that are made from now on."""
        # A call may find its connection closed, connect, and send again: two
        # waits on the network that together stay within the timeout.
        half = {"socket_timeout": timeout / 2, "socket_connect_timeout": timeout / 2}
        self._connection_kwargs |= half
        self.close()

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop()[0].close()

    def _load(self, script: Script, error: Exception) -> None:
        """Load a script that Redis does not know; raise any other error."""
        if not _is_unknown(error):
            raise translated(error, self.address) from None
        self.execute("SCRIPT", "LOAD", script.text)

    def _exchange(
        self, command: bytes, *, once: bool = False, bulk: bool = False, count: int = 0
    ) -> Any:
        try:
            connection, used = self._take()
            try:
                if bulk:
                    reply: Any = connection.exchange_bulk(command)
                elif count:
                    reply = connection.exchange_many(command, count)
                else:
                    reply = connection.exchange(command)
            except BaseException as error:
                # An unread reply would be taken for that of the next command.
                connection.close()
                if not used or isinstance(error, TimeoutError) or not isinstance(error, OSError):
                    raise
                # One fresh connection tells a server that was restarted, which is an
                # ordinary event, from an outage.
                self.close()
                if once:
                    raise Interrupted(
                        f"the connection to Redis at {self.address} broke ({_brief(error)}); the"
                        " operation may have been carried out"
                    ) from None
                return self._exchange(command, bulk=bulk, count=count)
        except (OSError, ProtocolError, self._errors.RedisError) as error:
            raise self._failure(error) from None
        self._idle.append((connection, time.monotonic()))
        return reply

    def _take(self) -> tuple[Connection, bool]:
        """Return a connection, and whether it was used before."""
        # Not by os.register_at_fork: uWSGI forks in C.
        if self._pid != os.getpid():
            # The parent's sockets: not closed, which TLS would tell the other end.
            self._idle, self._pid = deque(), os.getpid()
        try:
            connection, since = self._idle.pop()
        except IndexError:
            return self._connect(), False
        if time.monotonic() - since > IDLE and connection.is_closed():
            connection.close()
            self.close()  # the others are no younger
            return self._connect(), False
        return connection, True

    def _connect(self) -> Connection:
        return Connection(self._connection_class(**self._connection_kwargs))

    def _unless_error(self, reply: Any) -> Any:
        if isinstance(reply, Exception):
            raise translated(reply, self.address) from None
        return reply

    def _failure(self, error: Exception) -> Exception:
        """Return the error to raise where there was no reply."""
        errors = self._errors
        if isinstance(error, TimeoutError | errors.TimeoutError):
            return BufferUnavailable(
                f"Redis at {self.address} did not answer in time; the operation may have been"
                " carried out",
                hint="check the server, or raise segment_redis_timeout",
            )
        if isinstance(error, errors.AuthenticationError | errors.BusyLoadingError):
            return translated(error, self.address)
        return BufferUnavailable(
            f"Redis at {self.address} is unreachable ({_brief(error)})",
            hint="check that it runs, and segment_redis_url",
        )


def _is_unknown(reply: Any) -> bool:
    """Return whether a reply says that Redis does not know the script."""
    return isinstance(reply, Exception) and str(reply).startswith("NOSCRIPT")


def _brief(error: BaseException) -> str:
    return str(error).rstrip(".")[:160] or type(error).__name__
