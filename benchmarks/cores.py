"""Pin Redis and its client to separate cores, and keep the cores awake, to measure latencies.

Otherwise, the same call takes 25 µs in one round and 70 µs in the next, for two reasons. The
scheduler may run both on the same core or on two. And the host of a virtual machine halts a core
that waits for a reply; waking it up takes several times as long as the call. So Redis and the
client get a core each, for all contestants alike, and on each core a process spins with idle
priority, which yields to any other process immediately.
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
    """Pin a server to one core, and this process and those it starts in the block to another."""
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
