"""Call from several threads of a process, each as soon as its last call has returned."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.events import EVENT, PROPERTIES, USER
from benchmarks.ours import application


def setup(redis_url: str, most_threads: int) -> Callable[[dict[str, Any]], dict[str, float]]:
    """Return a function that calls from so many threads until a time by the monotonic clock."""
    application(redis_url)
    from celery_segment import track

    def until(end: float) -> int:
        number = 0
        while time.monotonic() < end:
            track.delay(USER, EVENT, PROPERTIES)
            number += 1
        return number

    executor = ThreadPoolExecutor(most_threads)
    until(time.monotonic() + 0.01)

    def run(spec: dict[str, Any]) -> dict[str, float]:
        cpu = time.process_time()
        if spec["threads"] == 1:
            calls = until(spec["end"])
        else:
            each = [executor.submit(until, spec["end"]) for _ in range(spec["threads"])]
            calls = sum(future.result() for future in each)
        return {"calls": calls, "cpu": time.process_time() - cpu}

    return run
