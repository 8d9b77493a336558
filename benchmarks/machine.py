"""How much of the machine's cores others use while something is measured."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from benchmarks.children import cpu_seconds

__all__ = ["Usage"]

#: The columns of /proc/stat that are idle time: idle, iowait. Those after steal count twice.
_IDLE, _COLUMNS = (3, 4), 8


class Usage:
    """Counts the CPU time of some processes, and of the machine, from its construction on.

    Args:
        pids: The processes to count, by name; their children are counted with them.
    """

    def __init__(self, pids: dict[str, Iterable[int]]) -> None:
        self._pids = {name: list(each) for name, each in pids.items()}
        self._began = self._now()

    def end(self) -> dict[str, float]:
        """Return the CPU seconds of the processes since; and ``others``.

        That is how many cores others used, or the host of a virtual machine withheld.
        """
        wall, busy, own, cpu = self._now()
        wall_before, busy_before, own_before, cpu_before = self._began
        used = {name: cpu[name] - cpu_before[name] for name in cpu}
        ours = sum(used.values()) + own - own_before
        others = max((busy - busy_before) - ours, 0.0) / (wall - wall_before)
        return {**used, "others": others}

    def _now(self) -> tuple[float, float, float, dict[str, float]]:
        columns = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1 : _COLUMNS + 1]
        busy = sum(int(ticks) for n, ticks in enumerate(columns) if n not in _IDLE)
        cpu = {name: sum(map(cpu_seconds, pids)) for name, pids in self._pids.items()}
        tick = os.sysconf("SC_CLK_TCK")
        return time.monotonic(), busy / tick, time.process_time(), cpu
