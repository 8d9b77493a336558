"""Plain Celery: its ``.delay``, and a task that posts one event with requests."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import requests
from celery import Celery

from benchmarks.events import EVENT, PROPERTIES, USER, percentiles
from benchmarks.pacing import pace

app = Celery("plain", broker=os.environ.get("SEGMENT_BENCH_REDIS", "redis://127.0.0.1:6379/0"))
app.conf.task_ignore_result = True
app.conf.broker_connection_retry_on_startup = True

_session: requests.Session | None = None


@app.task
def deliver(message: dict[str, Any]) -> None:
    global _session  # noqa: PLW0603 - one session per process
    _session = _session or requests.Session()
    _session.post(
        os.environ["SEGMENT_BENCH_HOST"] + "/v1/batch",
        json={"batch": [message], "sentAt": message["timestamp"]},
        auth=("key", ""),
        timeout=15,
    ).raise_for_status()


def message(number: int) -> dict[str, Any]:
    return {
        "type": "track",
        "messageId": f"00000000-0000-4000-8000-{number:012d}",
        "timestamp": "2026-11-25T07:00:00.123Z",
        "userId": USER,
        "event": EVENT,
        "properties": PROPERTIES,
        "context": {"library": {"name": "plain-celery", "version": "1.0.0"}},
    }


def setup(redis_url: str, *, paced: bool = False) -> Callable[[Any], Any]:
    """Time ``.delay`` of one event, in a loop or at a rate."""
    app.conf.broker_url = redis_url
    one = message(1)
    deliver.delay(one)
    if paced:
        return lambda spec: {"took": pace(lambda: _delay(one), spec[0], int(spec[1]))["took"]}
    return lambda number: percentiles(lambda: deliver.delay(one), number)


def _delay(one: dict[str, Any]) -> None:
    deliver.delay(one)
