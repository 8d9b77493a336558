"""Run a function in a greenlet, which its caller's task awaits wherever the function waits."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from types import FrameType
from typing import Any, ParamSpec, TypeVar

from greenlet import GreenletExit, getcurrent, greenlet

__all__ = ["awaiting", "frame_before", "left", "limit", "run", "run_through", "wait"]

#: Bridges that are kept in a thread.
MOST = 50

P = ParamSpec("P")
T = TypeVar("T")


class _Bridge(greenlet):
    """A greenlet that runs functions, one after the other, for tasks of its thread.

    It is kept for the next one: Python gives a new greenlet memory of the system's for its frames,
    which takes longer than all else that is done here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.job: Any = None
        self.until = math.inf
        self.is_done = False
        self.value: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        while True:
            function, args, kwargs = self.job
            self.job = None
            try:
                self.value = function(*args, **kwargs)
            except GreenletExit:
                raise
            except BaseException as error:  # noqa: BLE001 - the task raises it
                self.error = error
            function = args = kwargs = None
            self.is_done = True
            self.parent.switch()


class _Idle(threading.local):
    """The bridges of a thread that run nothing."""

    def __init__(self) -> None:
        self.bridges: list[_Bridge] = []


_idle = _Idle()


def run(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
    """Await what a function returns; where it calls ``wait``, the task awaits.

    What cancels the task is raised in the function, at that place.
    """
    return run_through(None, function, *args, **kwargs)


async def run_through(
    through: Callable[[Any], Awaitable[Any]] | None,
    function: Callable[P, T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Do as ``run``, but await whatever the function waits for through another function."""
    idle = _idle.bridges
    bridge = idle.pop() if idle else _Bridge()
    bridge.job, bridge.until, bridge.is_done = (function, args, kwargs), math.inf, False
    bridge.parent = parent = getcurrent()
    bridge.gr_context = parent.gr_context  # the caller's visitor, and the like
    found = bridge.switch()
    while not bridge.is_done:
        try:
            value = await (through(found) if through else found)
        except BaseException:  # noqa: BLE001, PERF203 - whatever it is, the function has to know
            bridge.parent = getcurrent()
            found = bridge.throw(*sys.exc_info())
        else:
            bridge.parent = getcurrent()
            found = bridge.switch(value)
    result, error = bridge.value, bridge.error
    bridge.value = bridge.error = bridge.gr_context = None
    if len(idle) < MOST:
        idle.append(bridge)
    if error is not None:
        try:
            raise error
        finally:
            del error  # which has this frame
    return result  # type: ignore[no-any-return]


def wait(awaitable: Awaitable[T]) -> T:
    """Return what an awaitable has; only within a function that ``run`` runs."""
    found: T = _bridge().parent.switch(awaitable)
    return found


def limit(seconds: float) -> None:
    """Let all waits of the function that ``run`` runs end within so many seconds together."""
    _bridge().until = time.monotonic() + seconds


def left(seconds: float) -> float:
    """Return how long the function may wait, of so many seconds."""
    until = _bridge().until
    return seconds if until is math.inf else max(min(seconds, until - time.monotonic()), 0.0)


def _bridge() -> _Bridge:
    bridge = getcurrent()
    if not isinstance(bridge, _Bridge):
        raise RuntimeError("this is called outside of run()")
    return bridge


def awaiting() -> Any:
    """Return the greenlet whose task awaits what ``run`` runs here; None outside of that."""
    bridge: Any = getcurrent()
    return bridge.parent if isinstance(bridge, _Bridge) else None


def frame_before(frame: FrameType) -> FrameType | None:
    """Return the frame that called a frame, also where ``run`` is between the two."""
    if frame.f_back is not None:
        return frame.f_back
    bridge: Any = getcurrent()
    return bridge.parent.gr_frame if isinstance(bridge, _Bridge) else None
