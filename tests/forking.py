"""Start `celery` in a process forked from one that has imported what each of them imports first.

Celery with its plug-ins is most of what a worker's start costs: a second of a CPU's time. The
process that is forked has no thread, no connection and nothing of the library; what is forked goes
on as `python -m celery` does, with its own arguments, environment, folder and output, and ends as
an interpreter ends.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

#: What a worker has when it is ready, by the names that bring the rest.
IMPORTED = (
    *("celery.bin.celery", "celery.apps.worker", "celery.loaders.app"),
    *("celery.app.amqp", "celery.app.control", "celery.app.events", "celery.app.log"),
    *("celery.worker.autoscale", "celery.worker.components", "celery.worker.consumer"),
    *("celery.concurrency.prefork", "kombu.pidbox", "kombu.transport.redis"),
    *("msgspec.inspect", "packaging.version", "sqlite3", "importlib.resources.readers"),
)
#: Patched before anything is imported, these pools cannot be forked from what has imported.
_PATCHED = {"eventlet", "gevent"}


def start(arguments, environ, folder, output, errors=None):
    """Start `celery` with arguments; return what is as `subprocess.Popen`."""
    errors = errors or output
    if _PATCHED & set(arguments) or _read_at_a_start(environ) != _read_at_a_start(os.environ):
        return subprocess.Popen(
            [sys.executable, "-m", "celery", *arguments],
            env=environ,
            cwd=folder,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
    asked = {"arguments": arguments, "environ": environ, "folder": str(folder)}
    return Forked(asked, output, errors)


def _read_at_a_start(environ):
    """Return what the loader and the interpreter read before a program begins."""
    names = [name for name in environ if name.startswith(("LD_", "PYTHON"))]
    return {name: environ[name] for name in names if name != "PYTHONPATH"}


class Forked:
    """A forked process, to be asked as one of `subprocess.Popen`."""

    def __init__(self, asked: dict, output, errors) -> None:
        self.returncode: int | None = None
        ours, theirs = socket.socketpair()
        with theirs:
            fds = [theirs.fileno(), output.fileno(), errors.fileno()]
            socket.send_fds(_origin(), [b"."], fds)
        self._line = ours.makefile("rwb", buffering=0)
        ours.close()
        self._line.write(json.dumps(asked).encode() + b"\n")
        self.pid = int(self._line.readline())

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout=None) -> int:
        if self.returncode is None:
            if not select.select([self._line], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("celery", timeout)
            self.returncode = int(self._line.readline())
            self._line.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@cache
def _origin() -> socket.socket:
    """Return the line to the process that is forked, which ends with this one."""
    ours, theirs = socket.socketpair()
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            env=environ,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


# ---------------------------------------------------------------- the process that is forked


def _serve(line: socket.socket) -> None:
    """Fork for each that is asked for; return where one begins."""
    signal.signal(signal.SIGCHLD, _reap)
    while True:
        _, fds, _, _ = socket.recv_fds(line, 1, 3)
        if not fds:
            os._exit(0)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            line.close()
            _become(*fds)
            return
        for fd in fds:
            os.close(fd)


def _reap(*_) -> None:
    """Take leave of those that ended: what they used counts as used by the tests."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _become(fd: int, *streams: int) -> None:
    """Return in a process of its own, while this one waits to tell how that ends."""
    with open(fd, "r+b", buffering=0) as line:
        asked = json.loads(line.readline())
        child = os.fork()
        if child:
            _watch(child, line)
        os.setsid()
        line.write(b"%d\n" % os.getpid())
    for number, stream in enumerate(streams, start=1):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environ"])
    time.tzset()
    added = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:1] = [str(Path.cwd()), *filter(None, added)]
    sys.argv[1:] = asked["arguments"]


def _watch(child: int, line) -> None:
    """Tell how a child ended; its id is free once that was read, as with Popen."""
    with suppress(OSError):  # nobody is there any more
        ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        has_exited = ended.si_code == os.CLD_EXITED
        line.write(b"%d\n" % (ended.si_status if has_exited else -ended.si_status))
        line.read()
        os.waitpid(child, 0)
    os._exit(0)


def _main() -> None:
    line = socket.socket(fileno=int(sys.argv[1]))
    for name in IMPORTED:
        importlib.import_module(name)
    _serve(line)
    runpy.run_module("celery", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
