"""A socket of an event loop, with the part of ``socket.socket`` that a connection uses."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celery_segment.aio.loop import OnLoop

__all__ = ["LoopSocket"]


class LoopSocket(asyncio.Protocol):
    """The socket of a connection that asyncio has made.

    Args:
        writer: asyncio's stream, of which the transport is taken.
        waits: Waits on its loop.
        seconds: How long ``recv`` waits.
    """

    def __init__(self, writer: asyncio.StreamWriter, waits: OnLoop, seconds: float) -> None:
        # Kept, though it is not used: it closes its transport when it is collected.
        self._writer = writer
        self._transport: Any = writer.transport
        self._waits = waits
        self._seconds: float | None = seconds
        self._data = b""
        self._is_lost = False
        self._event: asyncio.Future[bool] | None = None
        self._transport.set_protocol(self)

    # ------------------------------------------------------------ called by the loop

    def data_received(self, data: bytes) -> None:
        """Keep what came for ``recv``."""
        self._data = self._data + data if self._data else data
        self._happen()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - one says no more
        """Note that nothing more will come."""
        self._is_lost = True
        self._happen()

    def _happen(self) -> None:
        if self._event is not None and not self._event.done():
            self._event.set_result(True)

    # ------------------------------------------------------------ called by a connection

    def sendall(self, data: bytes) -> None:
        """Send data; what the network does not take at once is sent by the loop."""
        if self._is_lost or self._transport.is_closing():
            raise ConnectionError("it was closed by Redis")
        self._transport.write(data)

    def recv(self, size: int) -> bytes:
        """Return what came, or b"" at the end.

        Raises:
            TimeoutError: Nothing came in time.
            BlockingIOError: Nothing is here, and it is not to wait.
        """
        if not self._data and not self._is_lost:
            self._wait()
        data = self._data
        if len(data) <= size:
            self._data = b""
            return data
        self._data = data[size:]
        return data[:size]

    def recv_into(self, place: memoryview) -> int:
        """Do as ``recv``; return the number of bytes."""
        data = self.recv(len(place))
        place[: len(data)] = data
        return len(data)

    def _wait(self) -> None:
        if self._seconds == 0:
            raise BlockingIOError
        event = self._event = self._waits.loop.create_future()
        try:
            if not self._waits.happens(event, self._seconds or 0):
                raise TimeoutError("timed out")
        finally:
            self._event = None

    def gettimeout(self) -> float | None:
        """Return how long ``recv`` waits."""
        return self._seconds

    def settimeout(self, seconds: float | None) -> None:
        """Change how long ``recv`` waits."""
        self._seconds = seconds

    def setblocking(self, blocking: bool) -> None:  # noqa: ARG002 - always False
        """Have ``recv`` not wait any more."""
        self._seconds = 0

    def close(self) -> None:
        """Close the connection at once, whatever was not sent yet."""
        if not self._waits.loop.is_closed():
            self._transport.abort()
