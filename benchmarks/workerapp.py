"""The Celery application of the worker that delivers the events."""

from __future__ import annotations

import os

from celery import Celery

app = Celery("bench", broker=os.environ["SEGMENT_BENCH_REDIS"])
app.conf.update(
    imports=["celery_segment"],
    segment_host=os.environ["SEGMENT_BENCH_HOST"],
    segment_write_key="key",
    broker_connection_retry_on_startup=True,
)
