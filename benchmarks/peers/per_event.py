"""Send a task per event to Celery's queue, for a worker of ``plain_celery`` to deliver."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.peers.plain_celery import app, deliver, message


def setup(redis_url: str) -> Callable[[int], int]:
    app.conf.broker_url = redis_url

    def run(number: int) -> int:
        for each in range(number):
            deliver.delay(message(each))
        return number

    return run
