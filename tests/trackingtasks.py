"""The application whose workers tests/fault/test_redelivery.py kills."""

from __future__ import annotations

import os
import signal
import time

from celery_segment import track
from support import buffer_of
from workerapp import app

#: Seconds between a task's two calls: workers are killed there as well.
PAUSE = 0.01


@app.task(name="tests.order", bind=True, ignore_result=True, max_retries=3)
def order(self, number, *, retries=0, dies=False):
    """Track twice; be retried so often; the first time, kill this process before the end."""
    count(self, "runs")
    track.delay(f"u{number}", "Order Placed", {"number": number})
    time.sleep(PAUSE)
    track("shop", "Order Placed", {"total": 5})
    if dies and count(self, f"died:{number}") == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if self.request.retries < retries:
        raise self.retry(countdown=0)
    buffer_of(self.app)._server.execute("SADD", "done", number)


def count(task, name):
    return int(buffer_of(task.app)._server.execute("INCR", name))
