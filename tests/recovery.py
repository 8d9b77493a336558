"""Web processes and workers under load, and how long each needs once its Redis is well again."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

from support import DEFAULTS, TESTS, WRITE_KEY, Gunicorn, settings_of, wait_until

#: Web processes; requests a second to all of them, by so many threads.
PROCESSES, RATE, THREADS = 2, 120.0, 8
#: Seconds of calls before a fault, and once the server is well.
BEFORE, AFTER = 1.0, 2.0
#: Each worker has the write key of one of them, so that it is seen what it delivers.
SOURCES = ("one", "two")


@dataclass
class Recovery:
    """What became of calls and deliveries.

    Attributes:
        web: Seconds, by web process, from when the server was well to the end of the last
            call that was not stored in it.
        workers: Likewise, by worker, to its first delivery.
        processes: Likewise, by a worker's process, to the end of its last drain or delivery
            that failed.
        errors: What calls raised.
        spilled: How many calls went to a file.
        lost: How many messages of calls that returned did not arrive.
        doubled: How many messages arrived twice.
    """

    web: dict[int, float] = field(default_factory=dict)
    workers: list[float] = field(default_factory=list)
    processes: dict[int, float] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    spilled: int = 0
    lost: int = 0
    doubled: int = 0

    @property
    def seconds(self) -> list[float]:
        """How long each web process and worker needed, and each process of a worker that failed."""
        return [*self.web.values(), *self.workers, *filter(None, self.processes.values())]


class Load:
    """A web application and workers, with requests from the start of the block on.

    Args:
        folder: A folder for what they write.
        workers: What starts workers.
        app: The Celery application that has their settings.
        server: The endpoint.
        environ: Variables of their environment.
    """

    def __init__(self, folder: Path, workers, app, server, **environ: str) -> None:
        self._folder, self._workers, self._app, self._server = folder, workers, app, server
        self._environ = {"PYTHONPATH": str(TESTS), **environ}
        self._answers: list[dict] = []
        self._start, self._ended = 0.0, threading.Event()
        self._numbers = iter(range(10**9))
        self._threads = [threading.Thread(target=self._run) for _ in range(THREADS)]
        self._stack = ExitStack()

    def __enter__(self):
        conf = settings_of(self._app)
        keys = {name: {"write_key": WRITE_KEY} for name in SOURCES}
        for name in SOURCES:
            # A source without a key is left to the other worker.
            own = {each: key if each == name else {} for each, key in keys.items()}
            watched = {**self._environ, "WATCHED": str(self._watched(name))}
            given = {"segment_write_key": None, "segment_sources": own}
            self._workers.start(self._app, environ=watched, module="watchedworker", **given)
        conf = {**DEFAULTS, **conf, "segment_sources": keys}
        environ = {**self._environ, "TESTS_CONF": json.dumps(conf)}
        web = Gunicorn(self._folder, "callingapp:web", environ, PROCESSES, "--threads=4")
        self._port = int(self._stack.enter_context(web).url.rpartition(":")[2])
        self._start = time.monotonic()
        for thread in self._threads:
            thread.start()
        wait_until(lambda: len({each["pid"] for each in self._answers}) == PROCESSES)
        for name in SOURCES:
            wait_until(lambda name=name: self._watched(name).exists())
        self._wait(BEFORE)
        return self

    def __exit__(self, *_):
        self._end()
        self._stack.close()

    def recover(self, well: float) -> Recovery:
        """Go on for a while; return how everything has recovered since the server was well."""
        self._wait(AFTER)
        self._end()
        found = Recovery()
        last: dict[int, float] = defaultdict(lambda: well)
        for each in self._answers:
            is_bad = each["error"] or each["waiting"]
            last[each["pid"]] = max(last[each["pid"]], each["ended"] if is_bad else well)
        found.web = {pid: at - well for pid, at in last.items()}
        for name in SOURCES:
            lines = [line.split() for line in self._watched(name).read_text().splitlines()]
            times = [float(at) for at, _, what in lines if what == "delivered"]
            found.workers.append(min((at for at in times if at > well), default=1e9) - well)
            for at, pid, what in lines:
                late = float(at) - well if what == "failed" else 0.0
                found.processes[int(pid)] = max(late, found.processes.get(int(pid), 0.0))
        found.errors = [each["error"] for each in self._answers if each["error"]]
        found.spilled = sum(1 for each in self._answers if each["waiting"])
        accepted = {each["id"] for each in self._answers if each["id"]}
        self._server.wait_for(lambda: accepted <= {*self._server.received}, timeout=10)
        found.lost = len(accepted - {*self._server.received})
        found.doubled = self._server.duplicates
        return found

    def _watched(self, source: str) -> Path:
        return self._folder / f"watched-{source}"

    def _wait(self, seconds: float) -> None:
        """Let requests be made for so many seconds."""
        until = time.monotonic() + seconds
        wait_until(lambda: self._answers[-1]["began"] > until)

    def _end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            due = self._start + next(self._numbers) / RATE
            self._ended.wait(max(due - time.monotonic(), 0))
            connection = HTTPConnection("127.0.0.1", self._port, timeout=30)
            try:
                connection.request("GET", "/", headers={"Connection": "close"})
                answer = connection.getresponse()
                assert answer.status == 200, answer.status
                self._answers.append(json.load(answer))
            finally:
                connection.close()


def report(name: str, found: Recovery) -> None:
    """Append what was measured to the file that SEGMENT_TEST_REPORT names."""
    if path := os.environ.get("SEGMENT_TEST_REPORT"):
        with Path(path).open("a") as file:
            file.write(
                f"{name}: web {max(found.web.values()):.2f}, deliveries {max(found.workers):.2f},"
                f" processes {max(found.processes.values()):.2f}; {found.spilled} spilled,"
                f" {len(found.errors)} raised, {found.lost} lost, {found.doubled} doubled\n"
            )
