"""The demo's Celery application, which its workers and Flower load."""

from __future__ import annotations

import json
import os

from celery import Celery

__all__ = ["VARIABLE", "app"]

#: The environment variable with the settings, as JSON, for the child processes.
VARIABLE = "SEGMENT_DEMO_SETTINGS"

app = Celery("celery_segment.demo")
app.conf.update(
    imports=["celery_segment"],
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
    # Shorter than the defaults, so that the last messages are delivered soon.
    segment_flush_interval=1.0,
    segment_timeout=5.0,
    segment_lease=10.0,
    # With a slow disk, a call should be slow, not fail and end the demo.
    segment_redis_timeout=10.0,
    # The endpoint is on this machine, so a proxy of the environment must not be used.
    segment_proxies={},
)
app.conf.update(json.loads(os.environ.get(VARIABLE, "{}")))
