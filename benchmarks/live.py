"""The library's contestants in live traffic: paced calls, a filler, and a bare socket."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import cycle
from typing import Any

from benchmarks.events import EVENT, PROPERTIES, USER
from benchmarks.ours import bare_append
from benchmarks.pacing import Paced, others_cpu, pace

Round = Callable[[list[float]], Any]

#: Events that the filler stores in a round trip.
PART = 1_000


def setup(kind: str) -> Round:
    """Configure the application by the environment, as the worker is."""
    from benchmarks.workerapp import app

    app.loader.import_default_modules()
    app.set_default()
    kinds = {"call": call, "stamped": stamped, "socket": bare_socket, "fill": fill}
    return kinds[kind](app)


def call(_: Any) -> Round:
    """Time calls; a round has a rate and a number."""
    from celery_segment import track

    def one() -> None:
        track.delay(USER, EVENT, PROPERTIES)

    one()

    def run(spec: list[float]) -> Paced:
        others = others_cpu()
        paced = pace(one, spec[0], int(spec[1]))
        cpu = paced["cpu"] + others_cpu() - others
        return {"took": paced["took"], "cpu": cpu}

    return run


def stamped(_: Any) -> Callable[[list[Any]], list[tuple[str, float]]]:
    """Return when each call was made, by its message's id; a round may name sources in turn."""
    from celery_segment import track

    def run(spec: list[Any]) -> list[tuple[str, float]]:
        rate, number, *rest = spec
        sources = cycle(rest[0] if rest else ["default"])

        def one() -> tuple[str, float]:
            source, at = next(sources), time.monotonic()
            return track.delay(USER, EVENT, PROPERTIES, source=source).id, at

        results: list[tuple[str, float]] = pace(one, rate, number)["results"]
        return results

    return run


def bare_socket(app: Any) -> Round:
    """APPEND the same bytes through a socket: the bare round trip."""
    one, clear = bare_append(app)

    def run(spec: list[float]) -> Paced:
        took = pace(one, spec[0], int(spec[1]))["took"]
        clear()
        return {"took": took}

    return run


def fill(_: Any) -> Round:
    """Store events at a rate, and return the rate that was reached."""
    from celery_segment import Analytics, track

    def part() -> None:
        with Analytics().batch():
            for _ in range(PART):
                track.delay(USER, EVENT, PROPERTIES)

    part()

    def run(spec: list[float]) -> float:
        began, number = time.perf_counter(), int(spec[1])
        pace(part, spec[0] / PART, number // PART)
        return number / (time.perf_counter() - began)

    return run
