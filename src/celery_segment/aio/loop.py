"""How code in a greenlet waits on an event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from functools import partial
from typing import Any, ParamSpec, TypeVar

from celery_segment.aio.bridge import left, run, run_through, wait
from celery_segment.aio.waits import Lock

__all__ = ["OnLoop", "finish"]

P = ParamSpec("P")
T = TypeVar("T")

#: Calls that begin in one turn of the loop: a quarter of a millisecond of it.
CALLS = 4
#: Waits that end in one turn since their time is up: one, but more where that takes so many seconds
#: already, since the loop's turns are long.
PATIENCE, MORE = 0.05, 8


class OnLoop:
    """Waits on one event loop: in functions that ``run`` runs, in tasks of that loop.

    What many do at the same moment is spread over turns of the loop, so that whatever else is due
    comes in between: calls that begin, and those whose time is up, as when Redis is frozen.

    Args:
        loop: The loop.
    """

    #: As large as one call's, an append takes 2 ms.
    share = 0.2

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._late: deque[tuple[asyncio.Future[bool], float]] = deque()
        self._begun = 0
        self._line: deque[asyncio.Future[None]] = deque()
        self._started: set[asyncio.Task[None]] = set()
        #: Held while a connection is made, which takes as long as several calls.
        self.connecting: Lock = _LoopLock(self)

    async def begin(self) -> None:
        """Wait until a call may begin: most may at once."""
        if self._begun < CALLS and not self._line:
            self._begun += 1
            if self._begun == 1:
                self.loop.call_soon(self._turn)
            return
        place = self.loop.create_future()
        self._line.append(place)
        await place

    def _turn(self) -> None:
        self._begun = 0
        while self._line and self._begun < CALLS:
            place = self._line.popleft()
            if not place.done():  # such as one that is cancelled
                place.set_result(None)
                self._begun += 1
        if self._begun:
            self.loop.call_soon(self._turn)

    def pause(self) -> None:
        """Let the loop go on, in the midst of work."""
        self.happens(self.loop.create_future(), 0)

    def lock(self) -> Lock:
        """Return a new lock for the tasks of the loop."""
        return _LoopLock(self)

    def sleep(self, seconds: float) -> None:
        """Wait for so long."""
        self.happens(self.loop.create_future(), seconds)

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what a function returns that blocks: it runs in a thread."""
        own = partial(copy_context().run, function, *args, **kwargs)
        return wait(self.loop.run_in_executor(None, own))

    def start(self, name: str, function: Callable[..., None], *args: Any) -> None:
        """Run a function in a task of its own, and without the caller's context, until ``end``."""
        task = Context().run(self.loop.create_task, run(function, *args), name=name)
        self._started.add(task)
        task.add_done_callback(self._started.discard)

    async def end(self) -> None:
        """End what was started."""
        started = list(self._started)
        for task in started:
            task.cancel()
        await asyncio.gather(*started, return_exceptions=True)

    def happens(self, event: asyncio.Future[bool], seconds: float) -> bool:
        """Wait until an event's future is done; return its result, or False after so long."""
        timer = self.loop.call_later(left(seconds), self._expire, event)
        try:
            return wait(event)
        finally:
            timer.cancel()

    def _expire(self, event: asyncio.Future[bool]) -> None:
        self._late.append((event, self.loop.time()))
        if len(self._late) == 1:
            self.loop.call_soon(self._end_some)

    def _end_some(self) -> None:
        waited = self.loop.time() - self._late[0][1]
        for _ in range(1 if waited < PATIENCE else min(MORE, len(self._late))):
            event, _since = self._late.popleft()
            if not event.done():
                event.set_result(False)
        if self._late:
            self.loop.call_soon(self._end_some)


class _LoopLock:
    """A lock of the tasks of one loop, which is given to those who wait in their order.

    Args:
        waits: Waits on the loop.
    """

    __slots__ = ("_is_locked", "_queue", "_waits")

    def __init__(self, waits: OnLoop) -> None:
        self._waits = waits
        self._is_locked = False
        self._queue: deque[asyncio.Future[bool]] = deque()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if not self._is_locked:
            self._is_locked = True
            return True
        if not blocking or timeout == 0:
            return False
        turn: asyncio.Future[bool] = self._waits.loop.create_future()
        self._queue.append(turn)
        try:
            return wait(turn) if timeout < 0 else self._waits.happens(turn, timeout)
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.result():
                self.release()  # it was given at the moment at which the task was cancelled
            raise

    def release(self) -> None:
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(True)
                return
        self._is_locked = False

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


_running: set[asyncio.Task[Any]] = set()


async def finish(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do as ``run``, but have the function go on to its end where this task is cancelled.

    So it does where the loop ends, and all of its tasks are cancelled.
    """
    task = asyncio.create_task(run_through(_to_end, function, *args, **kwargs))
    _running.add(task)  # a loop keeps no reference to its tasks
    task.add_done_callback(_running.discard)
    return await asyncio.shield(task)


async def _to_end(awaited: Awaitable[T]) -> T:
    """Await a future, or what can be awaited anew, however often this task is cancelled."""
    while True:
        try:
            return await (asyncio.shield(awaited) if asyncio.isfuture(awaited) else awaited)
        except asyncio.CancelledError:  # noqa: PERF203 - it is what is waited for again
            if asyncio.isfuture(awaited) and awaited.cancelled():
                raise
