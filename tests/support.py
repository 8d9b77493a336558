"""Helpers of the tests: applications, worker processes, conditions to wait for."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import trustme
from celery import Celery
from celery.app.trace import build_tracer

import forking
from celery_segment.buffer import keys, messages_of
from celery_segment.runtime import runtime_of

#: The folder of the tests, where processes find `workerapp`.
TESTS = Path(__file__).parent

WRITE_KEY = "testwritekeyk3pts3cr3t"
DEFAULTS = {
    "imports": ["celery_segment"],
    "segment_write_key": WRITE_KEY,
    "broker_connection_retry_on_startup": True,
    "worker_hijack_root_logger": False,
}


#: A pytest of its own, without the plugins that are installed for other tests: to load them takes
#: it four times as long as all else that it does.
PYTEST = [
    *(sys.executable, "-m", "pytest", "-pno:cacheprovider", "-pno:hypothesispytest"),
    *("-pno:typeguard", "-pno:anyio", "-pno:django", "-pno:time_machine"),
]


class Absent(Exception):  # noqa: N818 - what is wrong with the machine, not with a test
    """A server that is not installed here; the text says how to get it."""


def new_app(conf):
    app = Celery("tests", set_as_current=False)
    app.conf.update({**DEFAULTS, **conf})
    app.loader.import_default_modules()
    app.finalize()
    return app


def run_as_worker(app, body, task_id="id-1", **request):
    """Run a function by Celery's own code of a worker's process."""

    def run(self, *args):
        return body(self, *args)

    app.tasks.pop("tests.tracking", None)
    app.task(run, bind=True, name="tests.tracking", shared=False, ignore_result=True)
    task = app.tasks["tests.tracking"]
    trace = build_tracer(task.name, task, app=app, eager=False, propagate=True)
    trace(task_id, (), {}, {"id": task_id, "retries": 0, "is_eager": False, **request})


def buffer_of(app, source="default"):
    return runtime_of(app).buffer(source)


def allow(buffer, requests: int) -> None:
    """Have so many requests be allowed at the same time, as good answers would."""
    key = f"{keys.prefix_of(buffer.source)}:state"
    buffer._server.execute("HSET", key, "limit", requests)


def wait_until(condition, timeout=20.0, message=None):
    """Wait for a condition to hold, and return its value."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(message or f"{condition} did not come to hold in {timeout} s")
        time.sleep(0.01)
    return value


#: Move all that Redis keeps of the time ARGV[1] milliseconds into the past.
_PASS = """
local source, passed = KEYS[1], tonumber(ARGV[1])
local sets = redis.call('KEYS', source .. ':dead:*')
for _, set in ipairs({':inflight', ':retrying', ':dead', ':settled'}) do
  table.insert(sets, source .. set)
end
for _, set in ipairs(sets) do
  for _, id in ipairs(redis.call('ZRANGE', set, 0, -1)) do
    redis.call('ZINCRBY', set, -passed, id)
  end
end
for _, name in ipairs({':gate', ':probe'}) do
  local left = redis.call('PTTL', source .. name)
  if left > passed then
    redis.call('PEXPIRE', source .. name, left - passed)
  else
    redis.call('DEL', source .. name)
  end
end
local hashes = redis.call('KEYS', source .. ':meta:*')
table.insert(hashes, source .. ':state')
for _, hash in ipairs(hashes) do
  for _, field in ipairs({'since', 'sealed', 'ticked', 'halved', 'began', 'failed', 'buried',
      'asked'}) do
    if redis.call('HEXISTS', hash, field) == 1 then
      redis.call('HINCRBY', hash, field, -passed)
    end
  end
end
if redis.call('HEXISTS', source .. ':stats', 'last_delivered') == 1 then
  redis.call('HINCRBY', source .. ':stats', 'last_delivered', -passed)
end
"""


def let_pass(redis, seconds: float, source="default") -> None:
    """Let time pass for a source, at once: by the server's clock nothing is waited for."""
    redis.eval(_PASS, 1, keys.prefix(source), round(seconds * 1000))


def stored(redis, source="default") -> list[dict]:
    """Return the messages of the open batch."""
    content = redis.get(f"{keys.prefix(source)}:open")
    return [json.loads(bytes(m)) for m in messages_of(content)] if content else []


def drops(**counts) -> dict[str, int]:
    """Return a source's dropped messages by reason, with zeros for those not given."""
    return {"full": 0, "unavailable": 0, "unknown": 0, "invalid": 0, "unidentified": 0, **counts}


def content_of(redis, key) -> bytes:
    """Return what a key holds, as it is: a dump may be compressed. One that is gone is empty."""
    match redis.type(key):
        case b"none":
            return b""
        case b"string":
            return redis.get(key) or b""
        case b"hash":
            return repr(redis.hgetall(key)).encode()
        case b"list":
            return b"".join(redis.lrange(key, 0, -1))
        case b"zset":
            return repr(redis.zrange(key, 0, -1)).encode()
        case b"set":
            return repr(redis.smembers(key)).encode()
    raise AssertionError(key)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def at_once(count, function):
    """Call a function from so many threads that are released together; return the results."""
    barrier = threading.Barrier(count)

    def run(_):
        barrier.wait()
        return function()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def forked(call):
    """Start a forked process that makes a call, and return it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # xdist's threads do not matter
        process = multiprocessing.get_context("fork").Process(target=call)
        process.start()
    return process


def in_child(call):
    """Return the truth of a call's result in a forked child; fail where it raises."""
    code = _code_in_child(lambda: int(not call()))
    assert code in (0, 1), f"the child ended with {code}"
    return code == 0


def killed_in_child(call):
    """Have a forked child make a call in which it kills itself; fail where it does not."""
    code = _code_in_child(lambda: call() and 0)
    assert code == -signal.SIGKILL, f"the child ended with {code}"


def _code_in_child(call):
    """Return how a forked child ended that a call gives its status."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # xdist's threads do not matter
        child = os.fork()
    if child == 0:
        status = 2
        try:
            status = call()
        finally:
            os._exit(status)
    try:
        _, status = wait_until(lambda: (found := os.waitpid(child, os.WNOHANG))[0] and found)
    except AssertionError:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    return os.waitstatus_to_exitcode(status)


class Worker:
    """A `celery worker` process, of the application in `workerapp` or another module."""

    def __init__(
        self, folder, conf: dict, name: str, options: tuple[str, ...], more=(), app="workerapp"
    ) -> None:
        self.name = f"{name}@test"
        self.log = folder / f"{name}.log"
        environ = {**os.environ, "TESTS_CONF": json.dumps({**DEFAULTS, **conf})}
        environ = {**environ, "PYTHONPATH": str(TESTS), **dict(more)}
        arguments = ["-A", app, "worker", "-n", self.name, "--loglevel", "DEBUG", *options]
        with self.log.open("wb") as log:
            self.process = forking.start(arguments, environ, folder, log)

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_ready(self, timeout=30.0) -> None:
        def ready():
            assert self.process.poll() is None, f"the worker ended:\n{self.output[-3000:]}"
            return f"{self.name} ready." in self.output

        wait_until(ready, timeout, f"{self.name} is not ready")

    def signal(self, number: int) -> None:
        """Signal the worker and its children."""
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, timeout=30.0) -> int:
        """Stop it warmly, as a deploy does."""
        self.process.terminate()
        return self.process.wait(timeout)


class Workers:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._all: list[Worker] = []

    def __enter__(self):
        return self

    def start(
        self,
        app,
        *options: str,
        pool="prefork",
        processes=2,
        environ=(),
        module="workerapp",
        **conf,
    ) -> Worker:
        """Start a worker with the configuration of ``app``, and wait until it is ready."""
        plain = settings_of(app)
        name = f"w{len(self._all) + 1}"
        options = ("--pool", pool, "--concurrency", str(processes), *options)
        worker = Worker(self._folder, {**plain, **conf}, name, options, environ, module)
        self._all.append(worker)
        worker.wait_ready()
        return worker

    def start_answering(self, app, *options: str, **conf) -> Worker:
        """Start a worker; wait until it answers, which takes longer on a busy machine."""
        worker = self.start(app, *options, **conf)
        ping = partial(app.control.broadcast, "ping", destination=[worker.name], reply=True)
        wait_until(ping)
        return worker

    def __exit__(self, *_):
        for worker in self._all:
            if worker.process.poll() is None:
                worker.signal(signal.SIGCONT)
                worker.kill()


class Gunicorn:
    """A web application under gunicorn's prefork processes, ready when entered."""

    def __init__(
        self, folder: Path, app: str, environ: dict[str, str], processes: int, *options: str
    ) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self._log = folder / "gunicorn.log"
        self._processes = processes
        self._command = [
            *(sys.executable, "-m", "gunicorn", app, f"--workers={processes}"),
            *options,
            *("--bind", self.url.partition("//")[2]),
            *("--access-logfile=-", "--access-logformat=answered by %(p)s: %(m)s %(U)s %(s)s"),
        ]
        self._environ = {**os.environ, **environ}

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def answered(self) -> set[str]:
        """The processes that have answered a request."""
        return set(re.findall("^answered by (.+?):", self.output, re.MULTILINE))

    def __enter__(self):
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                self._command, env=self._environ, stdout=output, stderr=subprocess.STDOUT
            )
        wait_until(lambda: self.output.count("Booting worker") == self._processes)
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(20)


def settings_of(app) -> dict:
    """Return those settings of an application that another process may be given as JSON."""
    return {name: value for name, value in app.conf.changes.items() if _is_json(value)}


def _is_json(value) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


class TLSFront:
    """TLS in front of a server of this machine, with a certificate that a bundle vouches for."""

    def __init__(self, target: int, folder: Path) -> None:
        authority = trustme.CA()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(self._context)
        self.bundle = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.bundle))
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self):
        self._threads[0].start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self):
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=(raw,)))
            self._threads[-1].start()

    def _serve(self, raw):
        try:
            client = self._context.wrap_socket(raw, server_side=True)
        except OSError:  # the client did not trust us
            raw.close()
            return
        upstream = socket.create_connection(("127.0.0.1", self._target))
        with client, upstream:
            client.settimeout(0.02)  # what came may be a part of what is encrypted as one
            while self._listener.fileno() >= 0:
                readable = [client] if client.pending() else _readable(client, upstream)
                if client in readable and not _pass_on(client, upstream):
                    return
                if upstream in readable and not _pass_on(upstream, client):
                    return


def _readable(*sockets):
    return select.select(sockets, (), (), 0.1)[0]


def _pass_on(source, target) -> bool:
    """Pass on what waits to be read; return whether the connection stands."""
    try:
        data = source.recv(65_536)
    except TimeoutError:
        return True
    except OSError:
        return False
    try:
        target.settimeout(5)
        target.sendall(data)
        target.settimeout(0.02)
    except OSError:
        return False
    return bool(data)


@contextmanager
def proxy_that_answers(status):
    """A proxy that gives each request the same answer."""
    head = f"HTTP/1.1 {status} Answer\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

    def serve():
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                client.recv(65_536)
                client.sendall(head.encode())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://user:passw0rd@127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
