"""Measure the time and memory of ``import celery_segment`` in a web process with Celery."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.figures import Claim, Figure, Row

PROGRAM = """
import json, resource, sys, time
from celery import Celery, shared_task
app = Celery("web", broker="redis://127.0.0.1:1/0")
app.finalize()
def memory():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() / 1e6
before, began = memory(), time.perf_counter()
{statement}
took = (time.perf_counter() - began) * 1000
print(json.dumps([took, memory() - before, sorted({{"requests", "urllib3"}} & sys.modules.keys())]))
"""


def measure(*, quick: bool) -> Figure:
    rounds = 5 if quick else 15
    statements = {
        "import celery_segment": "import celery_segment",
        "import requests, for comparison": "import requests",
    }
    took: dict[str, list[float]] = {name: [] for name in statements}
    grew: dict[str, list[float]] = {name: [] for name in statements}
    clients: set[str] = set()
    for _ in range(rounds):
        for name, statement in statements.items():
            program = PROGRAM.format(statement=statement)
            run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
            milliseconds, megabytes, loaded = json.loads(run.stdout)
            took[name].append(milliseconds)
            grew[name].append(megabytes)
            if name == "import celery_segment":
                clients |= set(loaded)
    rows = [Row(f"{name}, time", took[name]) for name in statements]
    memory = [Row(f"{name}, memory", grew[name]) for name in statements]
    claims = [
        Claim("time, ms", rows[0].median, 50),
        Claim("memory, MB", memory[0].median, 10),
        Claim("HTTP clients loaded", len(clients), 0),
    ]
    return Figure("Import in a process with Celery", "ms, MB", rows + memory, claims)
