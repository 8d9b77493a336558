"""The application around the library: a task of its own, who publishes it, and their books.

The task runs in the same workers as the deliveries, and travels through the same broker.
A book is append-only, a line per fact. The publisher's: ``? id at`` it began to publish a
task, ``+ id at`` Celery's call returned, ``! id at Error`` it raised. The task's: ``id at``
it began to run. Times are of ``time.monotonic()``, which all processes share.
"""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections import defaultdict
from pathlib import Path

from celery import shared_task

#: Seconds that a task works: it waits, as on a database.
WORK = 0.01
#: Bytes of a book's end that are read to see whether tasks run at present.
TAIL = 8_192


@shared_task(
    name="application.work", acks_late=True, reject_on_worker_lost=True, ignore_result=True
)
def work(name):
    """Write down in the worker's folder that a task has begun, and work for a moment."""
    line = f"{name} {time.monotonic():.6f}\n"
    book = os.open(f"work-{os.getpid()}.book", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(book, line.encode())
    os.close(book)
    time.sleep(WORK)


class Publisher(threading.Thread):
    """Publishes so many tasks a second, beside whatever else its process does."""

    def __init__(self, name: str, rate: float, folder: Path) -> None:
        super().__init__(name=f"publisher {name}")
        self._id = name
        self._every = 1 / rate
        self._path = folder / f"application-{name}.book"
        self._ended = threading.Event()

    def run(self) -> None:
        with self._path.open("a", buffering=1) as book:
            made = 0
            while not self._ended.wait(self._every):
                made += 1
                name = f"{self._id}-{made}"
                book.write(f"? {name} {time.monotonic():.6f}\n")
                outcome, error = "+", ""
                try:
                    work.apply_async((name,), task_id=name)
                except Exception as problem:  # noqa: BLE001 - told in the report
                    traceback.print_exc()
                    outcome, error = "!", f" {type(problem).__name__}"
                book.write(f"{outcome} {name} {time.monotonic():.6f}{error}\n")

    def end(self) -> None:
        """Have it publish no more, and wait for its last task."""
        self._ended.set()
        self.join()


def is_flowing(folder: Path, since: float) -> bool:
    """Return whether a task has run whose publication began after a time."""
    published = set()
    for path in folder.glob("application-*.book"):
        for line in _last_lines(path):
            mark, name, at, *_ = line.split(" ", 3)
            if mark == "?" and float(at) > since:
                published.add(name)
    return any(
        line.split()[0] in published
        for path in folder.glob("work-*.book")
        for line in _last_lines(path)
    )


def _last_lines(path: Path) -> list[str]:
    """Return the last whole lines of a book."""
    with path.open("rb") as book:
        start = max(book.seek(0, os.SEEK_END) - TAIL, 0)
        book.seek(start)
        lines = book.read().decode().splitlines(keepends=True)
    return [line for line in lines[1 if start else 0 :] if line.endswith("\n")]


def runs(folder: Path) -> dict[str, list[float]]:
    """Return when each task began to run: more than once if it was delivered again."""
    found: dict[str, list[float]] = defaultdict(list)
    for path in folder.glob("work-*.book"):
        for line in path.read_text().splitlines():
            name, at = line.split()
            found[name].append(float(at))
    return {name: sorted(times) for name, times in found.items()}


def publications(folder: Path) -> list[tuple[str, str, float, str]]:
    """Return the mark, the task, the time and the error of each line of the publishers' books."""
    lines = []
    for path in sorted(folder.glob("application-*.book")):
        for line in path.read_text().splitlines():
            mark, name, at, *error = line.split(" ", 3)
            lines.append((mark, name, float(at), *(error or [""])))
    return lines
