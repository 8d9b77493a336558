"""How code waits that does not know whether its caller may block."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, ParamSpec, Protocol, TypeVar

__all__ = ["BLOCKING", "Lock", "Waits"]

P = ParamSpec("P")
T = TypeVar("T")


class Lock(Protocol):
    """A lock with the methods of ``threading.Lock``."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquire it; return whether that took no longer than ``timeout`` seconds."""

    def release(self) -> None:
        """Release it: any caller may."""

    def __enter__(self) -> bool:
        """Acquire it."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        """Release it."""


class Waits(Protocol):
    """How a caller waits."""

    @property
    def share(self) -> float:
        """The share of what could be done at once that is done without a wait."""

    def pause(self) -> None:
        """Let others go on, in the midst of work."""

    def lock(self) -> Lock:
        """Return a new lock."""

    def sleep(self, seconds: float) -> None:
        """Wait for so long."""

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what a function returns that blocks, such as one that writes a file."""

    def start(self, name: str, function: Callable[..., None], *args: Any) -> None:
        """Run a function beside the caller, and let nobody wait for its end.

        Raises:
            RuntimeError: It cannot run: the process ends, or may have no further thread.
        """


class _Blocking:
    """The caller waits in its thread, or greenlet, and others have theirs."""

    share = 1.0

    def pause(self) -> None:
        pass

    def lock(self) -> Lock:
        return threading.Lock()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return function(*args, **kwargs)

    def start(self, name: str, function: Callable[..., None], *args: Any) -> None:
        threading.Thread(target=function, args=args, name=name, daemon=True).start()


BLOCKING: Waits = _Blocking()
