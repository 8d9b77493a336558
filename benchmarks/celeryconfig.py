"""Celery's configuration as the documentation shows it: a module with the defaults of all else.

The environment names the servers: SEGMENT_BENCH_REDIS holds the buffer, and the broker's queues
unless SEGMENT_BENCH_BROKER names another. SEGMENT_BENCH_SETTINGS has further settings, as JSON.
"""

from __future__ import annotations

import json
import os

segment_redis_url = os.environ["SEGMENT_BENCH_REDIS"]
broker_url = os.environ.get("SEGMENT_BENCH_BROKER") or segment_redis_url
broker_connection_retry_on_startup = True
imports = ["celery_segment"]
segment_host = os.environ["SEGMENT_BENCH_HOST"]
segment_write_key = "key"
globals().update(json.loads(os.environ.get("SEGMENT_BENCH_SETTINGS", "{}")))
