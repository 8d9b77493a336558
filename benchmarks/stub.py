"""Take the exchange with Redis out of a call, so that Python's part of it remains.

redis-py makes the connection, and a real Redis answers the first calls. Then ``answer_at_once``
replaces the two methods of the socket that an exchange uses, and each command is answered at once,
as the last one was.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from redis.connection import Connection

from benchmarks.events import percentiles

__all__ = ["StubbedSocket", "install", "percentiles_without_exchange"]


class StubbedSocket:
    """A socket whose answers may be replaced by the last one.

    Attributes:
        sent: The number of commands that were answered at once.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._last = b""
        self.sent = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def recv(self, size: int) -> bytes:
        """Receive, and keep the answer."""
        self._last = self._sock.recv(size)
        return self._last

    def answer_at_once(self) -> None:
        """Send nothing from now on, and give the last answer to each command."""
        answer = self._last

        def sendall(_: bytes) -> None:
            self.sent += 1

        def recv(_: int) -> bytes:
            return answer

        self.sendall, self.recv = sendall, recv  # type: ignore[method-assign]


def install() -> Callable[[], StubbedSocket]:
    """Have redis-py make such sockets; return a function that returns the last one."""
    made: list[StubbedSocket] = []
    connect = Connection._connect

    def stubbed(self: Connection) -> StubbedSocket:
        made.append(StubbedSocket(connect(self)))
        return made[-1]

    Connection._connect = stubbed  # type: ignore[method-assign]
    return lambda: made[-1]


def percentiles_without_exchange(
    call: Callable[[], object], sockets: Callable[[], StubbedSocket], number: int
) -> dict[str, float]:
    """Time calls whose exchange with Redis is answered at once.

    Args:
        call: Makes one.
        sockets: Returns the socket in place of the connection's.
        number: How many to time.
    """
    for _ in range(5):  # the first connects again where the others took more than a second
        call()
    sockets().answer_at_once()
    before = sockets().sent
    taken = percentiles(call, number)
    if sockets().sent - before != number:
        raise RuntimeError("a call is not one exchange any more: see StubbedSocket")
    return taken
