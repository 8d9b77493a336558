"""Contestants: processes that set themselves up, and then run a round whenever they are asked.

A contestant is a module with ``setup(**settings)``, whose return value takes a number and
returns what it measured, as JSON can hold it. Each runs in a process and, for the peers,
an environment of its own; rounds of all contestants alternate, so that whatever slows the
machine slows them alike.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Contestant", "cpu_seconds"]

ROOT = Path(__file__).parents[1]
#: The interpreter of the peers' environment.
PEERS = str(Path(os.environ.get("SEGMENT_BENCH_PEERS", sys.executable)).absolute())


class Contestant:
    """A contestant's process, for the length of a ``with`` block.

    Args:
        name: What it is called in the tables.
        module: Its module, such as ``benchmarks.peers.official``.
        settings: What its ``setup`` gets.
        peer: Whether it runs in the peers' environment.
    """

    def __init__(
        self, name: str, module: str, settings: Mapping[str, Any], *, peer: bool = False
    ) -> None:
        self.name = name
        self._command = [PEERS if peer else sys.executable, "-m", "benchmarks.children", module]
        self._settings = settings

    def __enter__(self) -> Self:
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ, text=True
        )
        self._ask(self._settings)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def round(self, number: int) -> Any:
        """Run one round and return what was measured."""
        return self._ask(number)

    def _ask(self, question: Any) -> Any:
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.name} ended with status {self.process.wait()}")
        return json.loads(answer)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process, its threads and its children have had so far."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    own = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return own + sum(cpu_seconds(int(child)) for child in children)


def main() -> None:
    """Serve a contestant: settings first, then rounds, a line of JSON each."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    setup = importlib.import_module(sys.argv[1]).setup
    run = setup(**json.loads(sys.stdin.readline()))
    answer: Any = "ready"
    while True:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        line = sys.stdin.readline()
        if not line:
            return
        answer = run(json.loads(line))


if __name__ == "__main__":
    main()
