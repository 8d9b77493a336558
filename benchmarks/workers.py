"""Run a real Celery worker, and measure the CPU time of its main process and its pool."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.children import PEERS, ROOT, cpu_seconds

if TYPE_CHECKING:
    from typing_extensions import Self

#: Maximum number of seconds for the start of a worker.
START = 60.0
#: The options of a worker with one process in its pool, for the figures of a backlog.
ONE_PROCESS = (
    *("--pool", "prefork", "--concurrency", "1", "--loglevel", "WARNING"),
    *("--without-gossip", "--without-mingle", "--without-heartbeat"),
)
#: The options of a worker with Celery's defaults.
DEFAULT = ()
#: CPU seconds per half second below which a worker is idle.
IDLE = 0.01


class Worker:
    """A worker, which runs during a ``with`` block.

    Args:
        app: The module of the Celery application.
        environ: Additional environment variables.
        options: Its options; by default, it has one process in its pool.
        peer: Whether it runs in the peers' environment.
        prefix: What its command starts with, to run it in a network namespace.
    """

    def __init__(
        self,
        app: str,
        environ: Mapping[str, str],
        options: Sequence[str] = ONE_PROCESS,
        *,
        peer: bool = False,
        prefix: Sequence[str] = (),
    ) -> None:
        python = PEERS if peer else sys.executable
        self._command = [*prefix, python, "-m", "celery", "-A", app, "worker", *options]
        self._environ = {**os.environ, "PYTHONPATH": str(ROOT), **environ}

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory()
        self._log = Path(self._folder.name) / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environ,
                cwd=self._folder.name,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, 9)
        self._process.wait()
        self._folder.cleanup()

    def wait_until_idle(self) -> None:
        """Wait until the pool has been forked and the worker is idle."""
        deadline, seen = time.monotonic() + START, -1.0
        while time.monotonic() < deadline:
            time.sleep(0.5)
            if self._process.poll() is not None:
                raise RuntimeError(f"the worker ended:\n{self._log.read_text()}")
            now = self.cpu()
            if self._children() and now - seen < IDLE:
                return
            seen = now
        raise RuntimeError(f"the worker did not start:\n{self._log.read_text()}")

    @property
    def pid(self) -> int:
        """The process id of its main process."""
        return self._process.pid

    def cpu(self) -> float:
        """Return the CPU seconds of the worker so far."""
        return cpu_seconds(self._process.pid)

    def pool_cpu(self) -> list[float]:
        """Return the CPU seconds of each process of the pool so far."""
        return [cpu_seconds(child) for child in self._children()]

    def _children(self) -> list[int]:
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return [int(child) for child in children.read_text().split()]
