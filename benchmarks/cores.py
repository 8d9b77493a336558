"""A core for Redis and another for its client, both awake, while latencies are measured.

Else the same call takes 25 µs in one round and 70 µs in the next, as the scheduler puts the
two on one core or on two, and as the host of a virtual machine lets a core that waits for
a reply halt, which costs several times what is measured. So each of them has its core, for
all contestants alike, and each core has a process that spins with idle priority: it gives
way to any other at once.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SPIN = """
import os
os.sched_setaffinity(0, {{{core}}})
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
while os.getppid() == {parent}:
    for _ in range(1_000_000):
        pass
"""


@contextmanager
def apart(server: int) -> Iterator[None]:
    """Put a server's process on one core, and what this one starts within the block on another."""
    cores = sorted(os.sched_getaffinity(0))
    spinners = [
        subprocess.Popen([sys.executable, "-c", SPIN.format(core=core, parent=os.getpid())])
        for core in cores
    ]
    os.sched_setaffinity(server, {cores[0]})
    os.sched_setaffinity(0, {cores[-1]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        for spinner in spinners:
            spinner.kill()
            spinner.wait()
