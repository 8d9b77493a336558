"""segment-analytics-python: a call, its consumer, its whole process, and a loop over a file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from queue import Queue
from typing import Any

from segment.analytics.client import Client
from segment.analytics.consumer import Consumer

from benchmarks.events import EVENT, PROPERTIES, USER, percentiles
from benchmarks.pacing import Paced, others_cpu, pace

SIZE = 10**7


def setup(kind: str, **settings: Any) -> Callable[[Any], Any]:
    kinds = {"call": call, "paced": paced, "live": live, "stamped": stamped}
    return {**kinds, "consume": consume, "file": file}[kind](**settings)


def client() -> Client:
    """Return a client whose consumer is stopped, so that only the call is timed."""
    made = Client("key", max_queue_size=SIZE)
    for consumer in made.consumers:
        consumer.pause()
        made.queue.put({})
        consumer.join()
    made.queue = Queue(SIZE)
    return made


def call() -> Callable[[int], Any]:
    made = client()

    def run(number: int) -> dict[str, float]:
        made.queue = Queue(SIZE)
        return percentiles(lambda: made.track(USER, EVENT, PROPERTIES), number)

    return run


def paced() -> Callable[[list[float]], Paced]:
    """Time calls at a rate; a round has the rate and a number."""
    made = client()

    def run(spec: list[float]) -> Paced:
        made.queue = Queue(SIZE)
        rate, number = spec
        return {"took": pace(lambda: track(made), rate, int(number))["took"]}

    return run


def live(host: str) -> Callable[[list[float]], Paced]:
    """Call at a rate with the default settings; measure the CPU time of calls and consumer."""

    def run(spec: list[float]) -> Paced:
        rate, number = spec
        made = Client("key", host=host)
        others = others_cpu()
        calls = pace(lambda: track(made), rate, int(number))["cpu"]
        made.shutdown()
        return {"cpu": calls + others_cpu() - others, "calls": calls}

    return run


def stamped(host: str) -> Callable[[list[float]], list[tuple[str, float]]]:
    """Return when each call was made, by its message's id."""
    made = Client("key", host=host)

    def one() -> tuple[str, float]:
        at = time.monotonic()
        return made.track(USER, EVENT, PROPERTIES)[1]["messageId"], at

    def run(spec: list[float]) -> list[tuple[str, float]]:
        results: list[tuple[str, float]] = pace(one, spec[0], int(spec[1]))["results"]
        made.flush()
        return results

    return run


def track(made: Client) -> None:
    made.track(USER, EVENT, PROPERTIES)


def consume(host: str) -> Callable[[int], Any]:
    """Deliver queued messages by one consumer, and measure its CPU time."""

    def run(number: int) -> dict[str, float]:
        made = client()
        for _ in range(number):
            made.track(USER, EVENT, PROPERTIES)
        consumer = Consumer(made.queue, "key", host=host, gzip=True, on_error=None)
        began, wall = time.process_time(), time.perf_counter()
        while not made.queue.empty():
            consumer.upload()
        seconds = time.process_time() - began
        return {"cpu": seconds, "wall": time.perf_counter() - wall, "events": number}

    return run


def file(path: str) -> Callable[[int], Any]:
    """Read a file of events and track each, as in Segment's documentation."""
    lines = Path(path).read_bytes().splitlines()

    def run(number: int) -> dict[str, float]:
        made = client()
        began = time.process_time()
        for line in lines[:number]:
            event = json.loads(line)
            made.track(
                event["userId"],
                event["event"],
                event["properties"],
                timestamp=datetime.fromisoformat(event["timestamp"].replace("Z", "+00:00")),
                message_id=event["messageId"],
            )
        return {"cpu": time.process_time() - began, "events": number}

    return run
