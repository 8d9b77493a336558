"""Find the longest run of each script in a Redis."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from celery_segment import buffer
from celery_segment.buffer.scripts import script
from celery_segment.testing import EmbeddedRedis

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["SHORT", "Watch"]

#: Milliseconds that are not worth a line. Below 0.1 the log would have the commands within the
#: scripts as well, and writing them would take longer than the scripts.
SHORT = 0.1
P = ParamSpec("P")
T = TypeVar("T")


class Watch:
    """Calls functions, and keeps the longest run of each script, during a ``with`` block.

    Redis' slow log has the time that a command blocked the server. Where another process took
    the core meanwhile, that is more than the script took. So a run counts with the server's CPU
    time during the call where this is less: it includes reading and answering, not waiting.

    Args:
        redis: The Redis, whose slow log is changed.

    Attributes:
        longest: The longest run of each script, in milliseconds, and the label of its call.
    """

    def __init__(self, redis: EmbeddedRedis) -> None:
        self.longest: dict[str, tuple[float, str]] = {}
        self._client: Any = redis.client()
        self._client.config_set("slowlog-log-slower-than", int(SHORT * 1000))
        self._client.config_set("slowlog-max-len", 10_000)
        self._client.slowlog_reset()
        # Linux' number for the CPU clock of another process.
        self._clock = (~redis.pid << 3) | 2
        lua = files(buffer) / "lua"
        names = [path.name.removesuffix(".lua") for path in lua.iterdir()]
        self._names = {script(name).sha: name for name in names if not name.startswith("_")}

    def __call__(self, label: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function and return its result."""
        before = time.clock_gettime(self._clock)
        result = call(*args, **kwargs)
        cpu = (time.clock_gettime(self._clock) - before) * 1000
        if entries := self._client.slowlog_get(10_000):
            self._client.slowlog_reset()
        for entry in entries:
            name, *arguments = entry["command"].split()
            if name.upper() == b"EVALSHA":
                self._note(self._names[arguments[0].decode()], entry["duration"] / 1000, cpu, label)
        return result

    @contextmanager
    def unwatched(self) -> Iterator[None]:
        """Have the slow log empty during a block, whose commands are not measured.

        To free thousands of its entries afterwards would take a part of the next script's time.
        """
        self._client.config_set("slowlog-log-slower-than", -1)
        yield
        self._client.config_set("slowlog-log-slower-than", int(SHORT * 1000))

    def _note(self, name: str, duration: float, cpu: float, label: str) -> None:
        took = min(duration, cpu)
        if took > self.longest.get(name, (0.0, ""))[0]:
            self.longest[name] = took, label

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
