"""Contestants: child processes that are set up once, and then run a round at each request.

A contestant is a module with a function ``setup(**settings)``. It returns a function that takes
the number of events of a round, or what else a round is made of, and returns the measurements as a
value that JSON has. Each
contestant has its own process, and the peers have their own environment. The rounds of all
contestants alternate, so that other load on the machine affects all of them alike.
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
#: The Python interpreter of the peers' environment.
PEERS = str(Path(os.environ.get("SEGMENT_BENCH_PEERS", sys.executable)).absolute())


class Contestant:
    """The process of a contestant, which runs during a ``with`` block.

    Args:
        name: Its name in the tables.
        module: Its module, such as ``benchmarks.peers.official``.
        settings: The arguments of its ``setup``.
        peer: Whether it runs in the peers' environment.
        environ: Additional environment variables.
    """

    def __init__(
        self,
        name: str,
        module: str,
        settings: Mapping[str, Any],
        *,
        peer: bool = False,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._command = [PEERS if peer else sys.executable, "-m", "benchmarks.children", module]
        self._settings = settings
        self._environ = {**os.environ, "PYTHONPATH": str(ROOT), **(environ or {})}

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._environ,
            text=True,
        )
        self._ask(self._settings)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def round(self, spec: Any) -> Any:
        """Run a round of so many events, or as specified, and return the measurements."""
        return self._ask(spec)

    def _ask(self, question: Any) -> Any:
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.name} ended with status {self.process.wait()}")
        return json.loads(answer)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, its threads and its children so far, in seconds."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    own = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return own + sum(cpu_seconds(int(child)) for child in children)


def main() -> None:
    """Run a contestant: read the settings, then a number for each round, one line of JSON each."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keeps what libraries print out of the answers
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
