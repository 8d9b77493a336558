"""A task that flushes within itself, for tests/integration/test_deliver.py."""

from __future__ import annotations

import json
import time

from celery import shared_task

from celery_segment import Analytics, track
from support import buffer_of


@shared_task(name="tests.track_and_flush", bind=True, ignore_result=True)
def track_and_flush(self, count):
    """Track so many events and flush; leave in Redis what remained, and how long it took."""
    for number in range(count):
        track.delay("u", f"E{number}")
    began = time.monotonic()
    remaining = Analytics().flush(10)
    outcome = json.dumps([remaining, time.monotonic() - began])
    buffer_of(self.app)._server.execute("SET", f"flushed:{self.request.id}", outcome)
