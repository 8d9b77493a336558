"""The Celery application of a worker without celery-segment."""

from __future__ import annotations

import os

from celery import Celery

app = Celery("plain", broker=os.environ["SEGMENT_BENCH_REDIS"])
app.conf.broker_connection_retry_on_startup = True
