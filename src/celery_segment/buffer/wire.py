"""One connection to Redis: made by redis-py, spoken on with the parser that redis-py uses.

redis-py connects (TLS, unix sockets, ACL users, databases). Its command machinery is
passed by, for it costs more than the rest of a call.
"""

from __future__ import annotations

import select
from typing import Any

import hiredis

__all__ = ["Wire"]

#: Bytes that are read at once: most replies are a few, a batch's is half a million.
_FIRST, _MORE = 4_096, 1 << 18


class Wire:
    """A connection, used by one caller at a time.

    Args:
        connection: redis-py's, not yet connected.

    Raises:
        redis.RedisError: It cannot be connected, or Redis refuses the user.
    """

    __slots__ = ("_connection", "_reader", "_sock")

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        connection.connect()
        self._sock: Any = connection._sock  # noqa: SLF001 - there is no public way to it
        self._reader = hiredis.Reader()

    def exchange(self, packed: bytes, replies: int) -> list[Any]:
        """Send packed commands and return so many replies; one may be a ``hiredis.ReplyError``.

        Raises:
            TimeoutError: There was no reply in time.
            OSError: The connection broke.
        """
        sock, reader = self._sock, self._reader
        sock.sendall(packed)
        reader.feed(_received(sock, _FIRST))
        result: list[Any] = []
        while len(result) < replies:
            try:
                reply = reader.gets()
            except hiredis.ProtocolError as error:
                raise ConnectionError(f"not Redis' protocol: {error}") from None
            if reply is False:  # the rest is still on its way
                reader.feed(_received(sock, _MORE))
            else:
                result.append(reply)
        return result

    def is_closed(self) -> bool:
        """Return whether there is something to read on an idle connection: only its end may be."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()


def _received(sock: Any, size: int) -> bytes:
    data: bytes = sock.recv(size)
    if not data:
        raise ConnectionError("it was closed by Redis")
    return data
