"""Run a real Celery worker, and measure the CPU time of its main process and its pool."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.children import PEERS, ROOT, cpu_seconds

if TYPE_CHECKING:
    from typing_extensions import Self

#: Maximum number of seconds for the start of a worker.
START = 60.0
#: CPU seconds per half second below which a worker is idle.
IDLE = 0.01


class Worker:
    """A worker with one process in its pool, which runs during a ``with`` block.

    Args:
        app: The module of the Celery application.
        environ: Additional environment variables.
        peer: Whether it runs in the peers' environment.
    """

    def __init__(self, app: str, environ: Mapping[str, str], *, peer: bool = False) -> None:
        options = ("--pool", "prefork", "--concurrency", "1", "--loglevel", "WARNING")
        options += ("--without-gossip", "--without-mingle", "--without-heartbeat")
        python = PEERS if peer else sys.executable
        self._command = [python, "-m", "celery", "-A", app, "worker", *options]
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
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
            now = self.cpu()
            if children.read_text().split() and now - seen < IDLE:
                return
            seen = now
        raise RuntimeError(f"the worker did not start:\n{self._log.read_text()}")

    def cpu(self) -> float:
        """Return the CPU seconds of the worker so far."""
        return cpu_seconds(self._process.pid)
