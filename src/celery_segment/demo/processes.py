"""The demo's child processes. Each has its own session and log file."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from celery_segment.contrib import flower as flowerconfig
from celery_segment.demo.app import VARIABLE
from celery_segment.errors import SegmentError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Child", "ChildError", "flower", "forget_environment", "worker"]

#: Maximum number of seconds for a child's start, and for its exit after SIGTERM.
START, GRACE = 60.0, 15.0
#: Seconds between two checks of a child that is starting.
POLL = 0.05
LAST_LINES = 20

_CELERY: tuple[str, ...] = (sys.executable, "-m", "celery", "--app", "celery_segment.demo.app")
_FOREIGN = ("CELERY_", "FLOWER_")


class ChildError(SegmentError):
    """A child process exited by itself, or did not start in time."""


class Child:
    """A child process that runs during a ``with`` block.

    It has its own session, so that it does not receive the terminal's Ctrl-C, and so that its
    own children can be killed with it.

    Args:
        name: Its name in messages; its log is ``<name>.log``.
        command: The program and its arguments.
        environ: The whole environment.
        folder: Its working directory, which contains the log.
    """

    def __init__(
        self, name: str, command: tuple[str, ...], environ: Mapping[str, str], folder: Path
    ) -> None:
        self.name = name
        self._command = command
        self._environ = environ
        self._folder = folder
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                self._command,
                env=self._environ,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is not None:
            aborted = kind is not None and issubclass(kind, KeyboardInterrupt)
            _end(self._process, 0.0 if aborted else GRACE)

    def check(self) -> None:
        """Raise ChildError with the end of its log if the process has exited."""
        if self._process is not None and (status := self._process.poll()) is not None:
            raise ChildError(f"{self.name} ended with status {status}; {self._tail()}")

    def wait_for(self, pattern: str) -> str:
        """Wait until a regular expression matches in its log, and return the match.

        Raises:
            ChildError: The process exited, or did not start in time.
        """
        deadline = time.monotonic() + START
        while not (found := re.search(pattern, self._read())):
            self.check()
            if time.monotonic() > deadline:
                raise ChildError(f"{self.name} did not start in {START:.0f} s; {self._tail()}")
            time.sleep(POLL)
        return found[0]

    def _read(self) -> str:
        return self._log.read_text(errors="replace")

    def _tail(self) -> str:
        return "\n".join(["the end of its log:", *self._read().splitlines()[-LAST_LINES:]])


def _end(process: subprocess.Popen[bytes], grace: float) -> None:
    """Terminate a process; after ``grace`` seconds, kill it and its children."""
    exited = False
    try:
        if process.poll() is None and grace:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(grace)
                exited = True
    finally:
        # Also after a second Ctrl-C during the wait. A worker that was killed leaves the processes
        # of its pool behind, so its whole process group is killed.
        if not exited:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def forget_environment() -> None:
    """Remove the environment variables that would make the demo use a real broker."""
    for name in [name for name in os.environ if name.startswith(_FOREIGN)]:
        del os.environ[name]


def worker(number: int, settings: Mapping[str, Any], write_key: str, folder: Path) -> Child:
    """Return a Celery worker. Only workers get the write key."""
    name = f"worker{number}"
    command = (*_CELERY, "worker", "--hostname", f"{name}@demo", "--loglevel", "INFO")
    command += ("--pool", "prefork", "--concurrency", "2", "--task-events")
    command += ("--without-mingle", "--without-gossip")
    return Child(name, command, _environ(settings, SEGMENT_WRITE_KEY=write_key), folder)


def flower(settings: Mapping[str, Any], login: str, folder: Path) -> Child | None:
    """Return Flower on a free port of this machine; None if it is not installed."""
    if importlib.util.find_spec("flower") is None:
        return None
    command = (
        *_CELERY,
        "flower",
        "--address=127.0.0.1",
        "--port=0",
        f"--conf={flowerconfig.__file__}",
    )
    # The login is not an argument, since those are visible in the list of processes.
    return Child("flower", command, _environ(settings, FLOWER_BASIC_AUTH=login), folder)


def _environ(settings: Mapping[str, Any], **own: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name != "SEGMENT_WRITE_KEY"}
    return {**inherited, VARIABLE: json.dumps(settings), **own}
