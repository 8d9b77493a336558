"""Serve the Django project with gunicorn."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from benchmarks.children import ROOT, cpu_seconds

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["WORKERS", "Site", "make_database"]

#: gunicorn's processes: one core is left to Redis, to the worker and to who requests the page.
WORKERS = max((os.cpu_count() or 1) - 1, 1)
#: Maximum number of seconds for the start of gunicorn.
START = 30.0


class Site:
    """gunicorn with synchronous workers, which runs during a ``with`` block.

    Args:
        kind: The way in which the view tracks its event.
        environ: Additional environment variables.

    Attributes:
        port: Its port.
    """

    def __init__(self, kind: str, environ: Mapping[str, str]) -> None:
        self._environ = {**_environ(environ), "SEGMENT_BENCH_KIND": kind}

    def __enter__(self) -> Self:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        options = ["--bind", f"127.0.0.1:{self.port}", "--workers", str(WORKERS)]
        options += ["--worker-class", "sync", "--log-level", "warning"]
        command = [
            sys.executable,
            "-m",
            "gunicorn",
            *options,
            "django.core.wsgi:get_wsgi_application()",
        ]
        self._process = subprocess.Popen(command, env=self._environ, start_new_session=True)
        self._wait()
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def cpu(self) -> float:
        """Return the CPU seconds of its processes so far."""
        return cpu_seconds(self._process.pid)

    def _wait(self) -> None:
        deadline = time.monotonic() + START
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise RuntimeError("gunicorn did not start")


def make_database(environ: Mapping[str, str]) -> None:
    """Make the database of SEGMENT_BENCH_DATABASE, with one user."""
    program = (
        "import django; django.setup()\n"
        "from django.core.management import call_command\n"
        "from django.contrib.auth.models import User\n"
        "call_command('migrate', verbosity=0)\n"
        "User.objects.create(pk=1, username='maria')\n"
    )
    subprocess.run([sys.executable, "-c", program], env=_environ(environ), check=True)


def _environ(environ: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **environ}
