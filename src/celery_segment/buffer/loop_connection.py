"""Connect to a Redis server on an event loop, by redis-py's asyncio connections.

They know TLS, unix sockets, users and databases. Once one is connected, its socket is spoken on
by ``Connection``, as that of a blocking one.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Generator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from celery_segment.aio.bridge import left, wait
from celery_segment.buffer.loop_socket import LoopSocket
from celery_segment.errors import ConfigurationError

if TYPE_CHECKING:
    from celery_segment.aio.loop import OnLoop

__all__ = ["LoopConnection", "on_loop"]

#: The share of the time to connect for which others that connect are waited for.
PATIENCE = 0.5

#: What redis-py's asyncio connections cannot do, though its blocking ones can. To connect without
#: it would be to connect without a check that was asked for.
_MISSING = ("ssl_validate_ocsp", "ssl_validate_ocsp_stapled", "ssl_ocsp_context")


def on_loop(blocking: type, arguments: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return redis-py's asyncio class in place of a blocking one, and its arguments.

    Raises:
        ConfigurationError: There is no such class, or it would not heed an argument.
    """
    for name in _MISSING:
        if arguments.get(name):
            raise ConfigurationError(
                f"segment_redis_url: redis-py's asyncio connections have no {name}",
                hint="call from a thread: await asyncio.to_thread(track.delay, …)",
            )
    found = _class_for(blocking)
    names = _names_of(found) - {"retry"}  # a blocking one; without it, none is made
    known = {name: value for name, value in arguments.items() if name in names}
    if known.get("credential_provider"):
        known["credential_provider"] = _awaited(known["credential_provider"])
    return found, known


class LoopConnection:
    """A connection with those methods of redis-py's blocking one that ``Connection`` uses.

    Args:
        cls: The class of redis-py's asyncio connection.
        arguments: Its arguments.
        seconds: How long to connect, and how long to wait for each answer.
        waits: Waits on the loop.
    """

    def __init__(
        self, cls: Any, arguments: Mapping[str, Any], seconds: float, waits: OnLoop
    ) -> None:
        self._class, self._arguments = cls, arguments
        self._seconds, self._waits = seconds, waits
        self._longest = seconds
        self._sock: LoopSocket | None = None

    def connect(self) -> None:
        """Connect, and log in."""
        began = time.monotonic()
        connecting = self._waits.connecting
        # One after the other, unless the server is far away, or does not answer.
        in_turn = connecting.acquire(timeout=self._seconds * PATIENCE)
        # To connect and to log in: each within ``seconds``, whatever a provider does.
        self._longest = left(2 * self._seconds - (time.monotonic() - began))
        try:
            self._sock = wait(self)
        finally:
            if in_turn:
                connecting.release()

    def __await__(self) -> Generator[Any, None, LoopSocket]:
        """Connect; awaited again, connect anew."""
        return self._connected().__await__()

    def disconnect(self) -> None:
        """Close the connection."""
        if self._sock is not None:
            self._sock.close()

    async def _connected(self) -> LoopSocket:
        await asyncio.sleep(0)  # what came before, and what comes now, are each enough for a turn
        connection = self._class(**self._arguments)
        try:
            await asyncio.wait_for(_connect(connection), self._longest)
        except BaseException as error:
            if connection._writer is not None:  # noqa: SLF001 - there is no public way to it
                connection._writer.transport.abort()  # noqa: SLF001
            connection._reader = connection._writer = None  # noqa: SLF001
            if isinstance(error, asyncio.TimeoutError):
                raise TimeoutError("timed out") from None
            raise
        writer = connection._writer  # noqa: SLF001 - as above
        connection._reader = connection._writer = None  # noqa: SLF001 - it is not to close it
        return LoopSocket(writer, self._waits, self._seconds)


async def _connect(connection: Any) -> None:
    tls = getattr(connection, "ssl_context", None)
    if tls is not None:
        await asyncio.to_thread(tls.get)  # it reads files of certificates
    await connection.connect()


def _class_for(blocking: type) -> Any:
    """Return redis-py's asyncio class that is named as a blocking one, or as its base class."""
    from redis.asyncio import connection as classes

    for each in blocking.__mro__:
        if each.__module__ == "redis.connection" and hasattr(classes, each.__name__):
            return getattr(classes, each.__name__)
    raise ConfigurationError(
        f"segment_redis_url: there is no asyncio connection in place of {blocking.__name__}"
    )


@cache
def _names_of(cls: type) -> frozenset[str]:
    """Return the names of a class' arguments, those of its base classes included."""
    return frozenset(
        name
        for base in cls.__mro__[:-1]
        for name in inspect.signature(base.__init__).parameters  # type: ignore[misc]
    )


def _awaited(provider: Any) -> Any:
    """Return a provider of credentials that runs in a thread where it would block."""
    from redis import RedisError
    from redis.credentials import CredentialProvider

    blocks = type(provider).get_credentials_async is CredentialProvider.get_credentials_async

    class Awaited(CredentialProvider):
        async def get_credentials_async(self) -> Any:
            try:
                if blocks:
                    return await asyncio.to_thread(provider.get_credentials)
                return await provider.get_credentials_async()
            except (OSError, ValueError, RedisError):
                raise
            except Exception as error:  # noqa: BLE001 - its own, whose text may hold a secret
                name = type(error).__name__
                raise ConnectionError(f"credential_provider raises {name}") from None

    return Awaited()
