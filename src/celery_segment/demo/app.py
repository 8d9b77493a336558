"""The demo's Celery application: its worker and Flower load it, its producer configures it."""

from __future__ import annotations

import json
import os

from celery import Celery

__all__ = ["VARIABLE", "app"]

#: The environment variable that carries settings, as JSON, to the child processes.
VARIABLE = "SEGMENT_DEMO_SETTINGS"

app = Celery("celery_segment.demo")
app.conf.update(
    imports=["celery_segment"],
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
    # Shorter than the defaults, so that the end does not wait for them.
    segment_flush_interval=1.0,
    segment_timeout=5.0,
    segment_lease=10.0,
    # A call that a slow disk holds up shall be slow, not an error that ends the demo.
    segment_redis_timeout=10.0,
    # The endpoint is on this machine, whatever proxy the environment names.
    segment_proxies={},
)
app.conf.update(json.loads(os.environ.get(VARIABLE, "{}")))
