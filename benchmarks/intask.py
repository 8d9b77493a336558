"""A call without its exchange with Redis, within a Celery task and outside of one."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from celery.app.trace import build_tracer

from benchmarks import stub
from benchmarks.events import EVENT, PROPERTIES, USER
from benchmarks.styles import update

#: Calls that are timed together. The least CPU time of many such batches is compared: whatever else
#: a machine does makes some of them longer, and its effect is greater than what is measured.
BATCH = 20
#: Times per round that it is measured in both places, one after the other.
TURNS = 5


def setup(mode: str) -> Callable[[int], dict[str, float]]:
    """Call once, and return a function that times calls without the exchange, in both places.

    Args:
        mode: The value of ``segment_idempotency``.
    """
    app = update()
    app.conf.segment_idempotency = mode
    app.loader.import_default_modules()
    app.set_default()
    sockets = stub.install()
    from celery_segment import track

    numbers = itertools.count()

    def one() -> None:
        track.delay(USER, EVENT, {**PROPERTIES, "number": next(numbers)})

    for _ in range(5):
        one()
    sockets().answer_at_once()

    def run(number: int) -> dict[str, float]:
        def least() -> float:
            return min(_mean(one) for _ in range(number // TURNS // BATCH))

        pairs = [(least(), _in_a_task(app, least)) for _ in range(TURNS)]
        outside, inside = zip(*pairs, strict=True)
        added = [b - a for a, b in pairs]
        return {"outside": median(outside), "inside": median(inside), "added": median(added)}

    return run


def _mean(call: Callable[[], None]) -> float:
    """Return the CPU time of a call, in µs."""
    gc.disable()
    began = time.thread_time()
    for _ in range(BATCH):
        call()
    taken = time.thread_time() - began
    gc.enable()
    return taken / BATCH * 1e6


def _in_a_task(app: Any, function: Callable[[], Any]) -> Any:
    """Return a function's result, run by what runs a task in a worker's process."""
    results: list[Any] = []
    name = f"benchmarks.in_task.{len(app.tasks)}"

    def run() -> None:
        results.append(function())

    app.task(run, name=name, ignore_result=True)
    task = app.tasks[name]
    trace = build_tracer(name, task, app=app, propagate=True)
    trace(name, (), {}, {"id": name, "retries": 0, "is_eager": False})
    return results[0]
