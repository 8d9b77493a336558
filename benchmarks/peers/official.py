"""segment-analytics-python: a call, its consumer, and a loop over a file."""

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

SIZE = 10**7


def setup(kind: str, **settings: Any) -> Callable[[int], Any]:
    return {"call": call, "consume": consume, "file": file}[kind](**settings)


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
