"""A call without its exchange with Redis, within a Celery task or outside of one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from celery.app.trace import build_tracer

from benchmarks import stub
from benchmarks.events import EVENT, PROPERTIES, USER, percentiles
from benchmarks.styles import update


def setup(mode: str, *, in_task: bool) -> Callable[[int], dict[str, float]]:
    """Call once, and return a function that times calls without the exchange.

    Args:
        mode: The value of ``segment_idempotency``.
        in_task: Whether the calls are made in a task.
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
    if not in_task:
        return lambda number: percentiles(one, number)
    return lambda number: _in_a_task(app, lambda: percentiles(one, number))


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
