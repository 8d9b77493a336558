"""Run a function in a greenlet, which its caller's task awaits wherever the function waits."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Coroutine
from types import FrameType
from typing import Any, ParamSpec, TypeVar

from greenlet import getcurrent, greenlet

__all__ = ["frame_before", "run", "run_through", "wait"]

P = ParamSpec("P")
T = TypeVar("T")


class _Bridge(greenlet):
    """A greenlet that runs a function for a task."""


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
    parent = getcurrent()
    bridge = _Bridge(function, parent)
    bridge.gr_context = parent.gr_context  # the caller's visitor, and the like
    found = bridge.switch(*args, **kwargs)
    while not bridge.dead:
        try:
            value = await (through(found) if through else found)
        except BaseException:  # noqa: BLE001, PERF203 - whatever it is, the function has to know
            bridge.parent = getcurrent()
            found = bridge.throw(*sys.exc_info())
        else:
            bridge.parent = getcurrent()
            found = bridge.switch(value)
    return found  # type: ignore[no-any-return]  # no awaitable any more: what is returned


def wait(awaitable: Awaitable[T]) -> T:
    """Return what an awaitable has; only within a function that ``run`` runs."""
    bridge = getcurrent()
    if not isinstance(bridge, _Bridge):
        raise RuntimeError("wait() is called outside of run()")
    found: T = bridge.parent.switch(awaitable)
    return found


def frame_before(frame: FrameType) -> FrameType | None:
    """Return the frame that called a frame, also where ``run`` is between the two."""
    if frame.f_back is not None:
        return frame.f_back
    bridge: Any = getcurrent()
    return bridge.parent.gr_frame if isinstance(bridge, _Bridge) else None
