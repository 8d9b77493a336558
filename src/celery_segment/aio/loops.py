"""What each event loop of this process has of its own, such as its connections."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Generic, TypeVar

from celery_segment.aio.loop import OnLoop

__all__ = ["Loops"]

T = TypeVar("T")

#: What belongs to loops of a parent process: a child must not touch their sockets.
_inherited: list[object] = []


class Loops(Generic[T]):
    """One object for each running loop, until the loop ends.

    ``asyncio.run``, and all else that calls ``loop.shutdown_asyncgens()`` as a server does, has
    the object closed before the loop is.

    Args:
        make: Makes the object for a loop.
        close: Closes one, on its loop.
    """

    def __init__(self, make: Callable[[OnLoop], T], close: Callable[[T], None]) -> None:
        self._make, self._close = make, close
        self._pid = os.getpid()
        self._found: dict[asyncio.AbstractEventLoop, tuple[T, AsyncIterator[None]]] = {}

    def here(self) -> T:
        """Return the object of the running loop."""
        loop = asyncio.get_running_loop()
        if self._pid != os.getpid():
            _inherited.append(self._found)
            self._pid, self._found = os.getpid(), {}
        try:
            return self._found[loop][0]
        except KeyError:
            return self._add(loop)

    def _add(self, loop: asyncio.AbstractEventLoop) -> T:
        for other in [other for other in self._found.copy() if other.is_closed()]:
            self._found.pop(other, None)
        waits = OnLoop(loop)
        made = self._make(waits)
        ending = self._ending(waits, made)
        # Begun here, so that the loop knows of it.
        with suppress(StopIteration):
            ending.__anext__().send(None)  # type: ignore[attr-defined]
        self._found[loop] = made, ending
        return made

    async def _ending(self, waits: OnLoop, made: T) -> AsyncIterator[None]:
        """Close an object when its loop ends its asynchronous generators."""
        try:
            yield
        finally:
            self._found.pop(waits.loop, None)
            self._close(made)
            await waits.end()
            # Sockets are closed in the loop's next turn, those of TLS in the one after.
            for _ in range(2):
                await asyncio.sleep(0)
