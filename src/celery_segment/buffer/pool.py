"""The shortest road to Redis: a packed command out, its reply back.

Connections lie on a stack: taking one is a single atomic operation, for threads and
greenlets alike, and a forked child starts with none.
"""

from __future__ import annotations

import os
import time
from collections import deque
from typing import Any
from weakref import WeakSet

from hiredis import ProtocolError

from celery_segment.buffer.connection import Connection
from celery_segment.buffer.scripts import Script, pack
from celery_segment.errors import (
    BufferFull,
    BufferUnavailable,
    ConfigurationError,
    SegmentBufferError,
)

__all__ = ["Interrupted", "Pool"]

#: Seconds for which a connection may lie idle before it is looked at: servers and
#: balancers close what is idle.
IDLE = 1.0


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
        # A call may find its connection closed, connect, and send again: two
        # waits on the network that together stay within the timeout.
        try:
            pool = ConnectionPool.from_url(
                url,
                socket_timeout=timeout / 2,
                socket_connect_timeout=timeout / 2,
                retry=Retry(NoBackoff(), 0),
                protocol=2,
                health_check_interval=0,
            )
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"segment_redis_url is not understood: {error}") from None
        self._connection_class = pool.connection_class
        self._connection_kwargs = pool.connection_kwargs
        self._idle: deque[tuple[Connection, float]] = deque()
        kwargs = pool.connection_kwargs
        self.address: str = (
            kwargs.get("path") or f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"
        )
        _pools.add(self)

    def __repr__(self) -> str:
        return f"Pool({self.address!r})"

    def run(
        self, script: Script, key: str, *arguments: str | bytes | float, once: bool = False
    ) -> Any:
        """Run a script on one key and return its reply."""
        return self.send(script, script.call(key, *arguments), once=once)

    def send(self, script: Script, packed: bytes, *, once: bool = False) -> Any:
        """Send a packed call of ``script`` and return its reply.

        Where Redis does not know the script (it was restarted, or its cache flushed) the
        script is loaded and the call, which had no effect, repeated. A call that may be
        carried out ``once`` only is not repeated when its connection breaks:
        ``Interrupted`` is raised.
        """
        reply = self._exchange(packed, once=once)
        if isinstance(reply, Exception):
            self._load(script, reply)
            reply = self._unless_error(self._exchange(packed, once=once))
        return reply

    def run_and_get(self, script: Script, packed: bytes, key: str) -> tuple[list[int], Any]:
        """Send a packed call that returns integers, and get a key's content, in one round trip.

        The call may be carried out twice. The content is None, bytes or a memoryview.
        """
        both = packed + pack("GET", key)
        reply, content = self._exchange(both, bulk=True)
        if isinstance(reply, Exception):
            self._load(script, reply)
            reply, content = self._exchange(both, bulk=True)
        return self._unless_error(reply), self._unless_error(content)

    def command(self, *arguments: str | bytes | float) -> Any:
        """Run a plain command and return its reply."""
        return self._unless_error(self._exchange(pack(*arguments)))

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop()[0].close()

    def forget(self) -> None:
        """Let go of the connections, which belong to the parent process."""
        self._idle = deque()

    def _load(self, script: Script, error: Exception) -> None:
        """Make the script known, where that it is not is the error; else raise the error."""
        if not str(error).startswith("NOSCRIPT"):
            raise self._translated(error) from None
        self.command("SCRIPT", "LOAD", script.text)

    def _exchange(self, packed: bytes, *, once: bool = False, bulk: bool = False) -> Any:
        try:
            connection, used = self._take()
            try:
                reply = connection.exchange_bulk(packed) if bulk else connection.exchange(packed)
            except BaseException as error:
                # A reply that nobody reads would answer the next command.
                connection.close()
                if not used or isinstance(error, TimeoutError) or not isinstance(error, OSError):
                    raise
                # A server that was restarted is an ordinary event, told apart from
                # an outage by one fresh connection.
                self.close()
                if once:
                    raise Interrupted(
                        f"the connection to Redis at {self.address} broke ({_brief(error)}); the"
                        " operation may have been carried out"
                    ) from None
                return self._exchange(packed, bulk=bulk)
        except (TimeoutError, self._errors.TimeoutError):
            raise BufferUnavailable(
                f"Redis at {self.address} did not answer in time; the operation may have been"
                " carried out: check the server, or raise segment_redis_timeout"
            ) from None
        except (self._errors.AuthenticationError, self._errors.BusyLoadingError) as error:
            raise self._translated(error) from None
        except (OSError, ProtocolError, self._errors.RedisError) as error:
            raise BufferUnavailable(
                f"Redis at {self.address} is out of reach ({_brief(error)}): check that it runs,"
                " and segment_redis_url"
            ) from error
        self._idle.append((connection, time.monotonic()))
        return reply

    def _take(self) -> tuple[Connection, bool]:
        """Return a connection, and whether it was used before."""
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
            raise self._translated(reply) from None
        return reply

    def _translated(self, error: Exception) -> SegmentBufferError:
        where = f"Redis at {self.address}"
        # A script's error has the code somewhere in its text; redis-py puts it into the
        # class of what it raises while it connects.
        text = str(error)[:200]
        said = f"{type(error).__name__} {text}"

        def is_one_of(*codes: str) -> bool:
            return any(code in said for code in codes)

        if is_one_of("OOM command not allowed"):
            return BufferFull(f"{where} is full: raise its maxmemory, or let the workers drain it")
        if is_one_of("READONLY"):
            mend = "point segment_redis_url at the primary"
            return BufferUnavailable(f"{where} is a read-only replica: {mend}")
        # Before it knows the user, Redis takes no command of more than ten arguments.
        unknown = ("Authentication", "NOPERM", "NOAUTH", "WRONGPASS", "unauthenticated multibulk")
        if is_one_of(*unknown):
            mend = "check the user, password and ACL behind segment_redis_url"
            return BufferUnavailable(f"{where} refused the user ({text}): {mend}")
        if is_one_of("BusyLoading", "LOADING", "MASTERDOWN", "MISCONF", "BUSY", "NOREPLICAS"):
            return BufferUnavailable(f"{where} does not serve at present: {text}")
        return SegmentBufferError(f"{where} refused a command: {text}")


def _brief(error: BaseException) -> str:
    return str(error).rstrip(".")[:160] or type(error).__name__


_pools: WeakSet[Pool] = WeakSet()


def _forget_all() -> None:
    for pool in _pools:
        pool.forget()


os.register_at_fork(after_in_child=_forget_all)
