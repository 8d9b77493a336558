"""Append to one Redis from many connections: by calls, and by redis-benchmark."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from benchmarks.children import Contestant
from benchmarks.events import EVENT, PROPERTIES, USER
from benchmarks.machine import Usage
from benchmarks.ours import application
from celery_segment import messages
from celery_segment.buffer.keys import prefix_of
from celery_segment.buffer.scripts import script
from celery_segment.calls import api
from celery_segment.runtime import runtime_of
from celery_segment.testing import EmbeddedRedis

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["TOOL_ABSENT", "Connections"]

TOOL_ABSENT = "Neither redis-benchmark nor valkey-benchmark is on the PATH."
#: Processes and threads at most.
MOST = 8
#: The first of the numbers behind the test's name: requests per second.
_RATE = re.compile(r',"([\d.]+)"(?:,"[\d.]+")*$')


class Connections(ExitStack):
    """A Redis, and the processes that append to it, during a ``with`` block.

    A measurement is a dict: ``rate``, appends per second; ``redis`` and ``caller``, the CPU
    seconds per append of the server and of those who append; ``others``, the cores that others
    used.
    """

    def __enter__(self) -> Self:
        self.redis = self.enter_context(EmbeddedRedis(appendonly=False))
        self._client: Any = self.enter_context(self.redis.client())
        self._callers = [
            self.enter_context(
                Contestant(
                    f"caller {n}",
                    "benchmarks.caller",
                    {"redis_url": self.redis.url, "most_threads": MOST},
                )
            )
            for n in range(MOST)
        ]
        self._executor = self.enter_context(ThreadPoolExecutor(MOST))
        self._command = self._append()
        self.tool = shutil.which("redis-benchmark") or shutil.which("valkey-benchmark")
        return self

    def calls(self, processes: int, threads: int, seconds: float) -> dict[str, float]:
        """Call from several processes, and several threads of each."""
        callers = self._callers[:processes]
        self._client.flushall()
        usage = self._usage(caller=[each.process.pid for each in callers])
        began = time.monotonic()
        spec = {"threads": threads, "end": began + seconds}
        found = list(self._executor.map(lambda caller: caller.round(spec), callers))
        return _per_append(sum(each["calls"] for each in found), seconds, usage.end())

    def by_tool(self, connections: int, seconds: float) -> dict[str, float]:
        """Have redis-benchmark append the same message; the number is found by a short run."""
        number = int(self._run_tool(connections, 5_000) * seconds)
        self._client.flushall()
        usage = self._usage()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        rate = self._run_tool(connections, number)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        caller = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        found = usage.end()
        found["others"] = max(found["others"] - caller / (number / rate), 0.0)
        return _per_append(number, number / rate, {**found, "caller": caller})

    def _usage(self, **pids: list[int]) -> Usage:
        return Usage({"redis": [self.redis.pid], **pids})

    def _run_tool(self, connections: int, number: int) -> float:
        assert self.tool is not None
        command = [self.tool, "-p", str(self.redis.port), "-c", str(connections), "-n", str(number)]
        done = subprocess.run(
            [*command, "--csv", *self._command], capture_output=True, text=True, check=True
        )
        # The name of the test is the command, whose own quotes are not escaped.
        found = _RATE.search(done.stdout.rstrip())
        assert found is not None, done.stdout
        return float(found[1])

    def _append(self) -> list[str]:
        """Return the command of a call."""
        app = application(self.redis.url)
        self._client.script_load(script("append").text)
        key = prefix_of(runtime_of(app).buffer("default").source)
        _, message = api.track.build(USER, EVENT, PROPERTIES)
        app.close()
        return ["EVALSHA", script("append").sha, "1", key, messages.encode(message).decode() + ","]


def _per_append(number: int, seconds: float, used: dict[str, float]) -> dict[str, float]:
    return {
        "rate": number / seconds,
        "redis": used["redis"] / number,
        "caller": used["caller"] / number,
        "others": used["others"],
    }
