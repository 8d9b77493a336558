"""Make calls at a steady rate, as traffic does, and measure each."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

__all__ = ["Paced", "others_cpu", "pace", "percentile"]

Paced = dict[str, Any]


def pace(call: Callable[[], Any], rate: float, number: int) -> Paced:
    """Make a call ``number`` times at a rate; return what each took, and their CPU time.

    A call is made when it is due, however long the calls before it took. Between two calls the
    process sleeps, and the cores with it, where nothing else is to be done.

    Returns:
        The keys are ``took``, a list of microseconds; ``cpu``, the seconds of CPU time that the
        calls took in this thread; ``results``, what they returned.
    """
    clock, cpu_clock = time.perf_counter_ns, time.thread_time_ns
    took, results, cpu = [], [], 0
    began, period = clock(), 1e9 / rate
    for n in range(number):
        wait = began + n * period - clock()
        if wait > 0:
            time.sleep(wait / 1e9)
        cpu_before, before = cpu_clock(), clock()
        result = call()
        took.append((clock() - before) / 1000)
        cpu += cpu_clock() - cpu_before
        results.append(result)
    return {"took": took, "cpu": cpu / 1e9, "results": results}


def others_cpu() -> float:
    """Return the CPU seconds so far of this process's threads, but not of this thread."""
    return time.process_time() - time.thread_time()


def percentile(values: list[float], percent: float) -> float:
    """Return the value below which so many percent of the values lie."""
    return sorted(values)[min(int(len(values) * percent / 100), len(values) - 1)]
