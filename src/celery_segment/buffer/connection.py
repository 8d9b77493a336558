"""One connection to Redis: made by redis-py, spoken on with the parser that redis-py uses.

redis-py connects (TLS, unix sockets, ACL users, databases). Its command machinery is
passed by, for it costs more than the rest of a call.
"""

from __future__ import annotations

import ssl
from typing import Any

import hiredis

from celery_segment.buffer.answers import is_unblocked

__all__ = ["Connection"]

#: Bytes that are read at once: most replies are a few, a batch's is half a million.
_FIRST, _MORE = 4_096, 1 << 18
#: What nearly each append is answered.
_ZERO = b":0\r\n"
_PING = b"*1\r\n$4\r\nPING\r\n"
#: A script that Redis does not know: it answers so, but not before it carries out writes again.
_UNKNOWN = b"*3\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n$1\r\n0\r\n" % (b"0" * 40)
_CLOSED = "it was closed by Redis"


class Connection:
    """A connection, used by one caller at a time.

    Args:
        connection: redis-py's, not yet connected.
        generation: The generation of connections that it belongs to.

    Attributes:
        since: When it was used last.

    Raises:
        redis.RedisError: It cannot be connected, or Redis refuses the user.
    """

    __slots__ = ("_connection", "_reader", "_sock", "generation", "since")

    def __init__(self, connection: Any, generation: int = 0) -> None:
        self.generation = generation
        self.since = 0.0
        self._connection = connection
        connection.connect()
        self._sock: Any = connection._sock  # noqa: SLF001 - there is no public way to it
        self._reader = hiredis.Reader()

    def exchange(self, command: bytes) -> Any:
        """Send an encoded command and return its reply, which may be a ``hiredis.ReplyError``.

        Raises:
            TimeoutError: There was no reply in time.
            OSError: The connection broke.
        """
        sock, reader = self._sock, self._reader
        sock.sendall(command)
        data = sock.recv(_FIRST)
        if data == _ZERO:
            return 0
        if not data:
            raise ConnectionError(_CLOSED)
        reader.feed(data)
        reply = reader.gets()
        while reply is False:  # the rest is still on its way
            reader.feed(_received(sock, _MORE))
            reply = reader.gets()
        return reply

    def exchange_many(self, commands: bytes, count: int) -> list[Any]:
        """As ``exchange``, of ``count`` commands that are sent together."""
        reader = self._reader
        self._sock.sendall(commands)
        replies: list[Any] = []
        while len(replies) < count:
            reader.feed(_received(self._sock, _MORE))
            while len(replies) < count and (reply := reader.gets()) is not False:
                replies.append(reply)
        return replies

    def exchange_confirmed(self, commands: bytes) -> tuple[Any, Any]:
        """As ``exchange``, of a command and WAIT: how many replicas have confirmed it."""
        reply, confirmed = self.exchange_many(commands, 2)
        # Where the server is made a replica meanwhile, nobody says whether another one has it.
        return reply, 0 if is_unblocked(confirmed) else confirmed

    def exchange_bulk(self, command: bytes) -> tuple[Any, Any]:
        """As ``exchange``, of two replies: a list of integers, and a string of any size.

        A string that is not here at once is read into its place, and a memoryview: a
        batch is copied once, not three times.
        """
        sock, reader = self._sock, self._reader
        sock.sendall(command)
        data = _received(sock, _FIRST)
        while (end := _end_of_integers(data)) is None or (line := _end_of_line(data, end)) is None:
            data += _received(sock, _FIRST)
        size = int(data[end + 1 : line - 2]) if data[end : end + 1] == b"$" else -1
        if size < 0 or size + 2 <= len(data) - line:
            reader.feed(data)  # an error, no such key, or all of it
            return reader.gets(), reader.gets()
        content = memoryview(bytearray(size + 2))
        have = len(data) - line
        content[:have] = data[line:]
        while have < size + 2:
            got = sock.recv_into(content[have:])
            if not got:
                raise ConnectionError(_CLOSED)
            have += got
        reader.feed(data[:end])
        return reader.gets(), content[:size]

    def ask(self) -> Any:
        """Return what Redis answers, if only a refusal; nothing while writes are paused.

        They are for a moment, while another server takes a primary's place.
        """
        return self.exchange(_UNKNOWN)

    def is_alive(self, seconds: float) -> bool:
        """Return whether Redis answers on an idle connection; close it if not.

        Looking for the end of the stream would not be enough: a balancer that forgets a
        connection tells neither side.
        """
        usual = self._sock.gettimeout()
        try:
            self._sock.settimeout(seconds)
            if self.exchange(_PING) == b"PONG":
                self._sock.settimeout(usual)
                return True
        except (OSError, hiredis.ProtocolError):
            pass
        except BaseException:
            self.close()
            raise
        self.close()
        return False

    def is_silent(self) -> bool:
        """Return, without waiting, whether nothing came since a command was not answered in time.

        After it the connection can only be asked this again, or closed.
        """
        try:
            self._sock.setblocking(False)
            self._sock.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            pass
        return False

    def set_timeout(self, seconds: float) -> None:
        """Change the timeout of each of its operations."""
        self._sock.settimeout(seconds)

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()


def _end_of_line(data: bytes, start: int) -> int | None:
    end = data.find(b"\r\n", start)
    return None if end < 0 else end + 2


def _end_of_integers(data: bytes) -> int | None:
    """Return where a reply that is a list of integers, or an error, ends; None when it does not."""
    end = _end_of_line(data, 0)
    if end is None or data[:1] != b"*":
        return end
    for _ in range(int(data[1 : end - 2])):
        end = _end_of_line(data, end)
        if end is None:
            return None
    return end


def _received(sock: Any, size: int) -> bytes:
    data: bytes = sock.recv(size)
    if not data:
        raise ConnectionError(_CLOSED)
    return data
