"""A Celery configuration with celery-segment, to start from.

    export SEGMENT_WRITE_KEY=...        # in the workers' environment; never in a file
    celery --config celeryconfig worker
    celery --config celeryconfig segment status --watch

An application takes it by ``app.config_from_object("celeryconfig")``.
"""

import os

# ---------------------------------------------------------------- Celery

# With its password, such as redis://:password@redis.example.com:6379/0.
broker_url = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
broker_connection_retry_on_startup = True

# The six calls, the drain and the delivery.
imports = ["celery_segment"]

# A delivery is one HTTP request, so processes mostly wait: more of them than cores is
# fine. Each takes one task at a time, which spreads a backlog over all.
worker_concurrency = 8
worker_prefetch_multiplier = 1
# Seconds that a cold shutdown (SIGQUIT) first leaves to requests under way. SIGTERM waits for
# them in any case, and a batch that is cut off is taken over by another worker.
worker_soft_shutdown_timeout = 20.0

# ---------------------------------------------------------------- celery-segment

# The default source's write key is the environment's SEGMENT_WRITE_KEY. Only workers need
# it: where it is absent, calls are stored all the same.

# The region of your Segment workspace; https://events.eu1.segmentapis.com is the European.
segment_host = os.environ.get("SEGMENT_HOST") or "https://api.segment.io"

# Until there is a write key a stand-in takes Segment's place, where docker-compose.yml runs
# one. It takes any key, and is reached without TLS.
if os.environ.get("SEGMENT_STAND_IN") and not os.environ.get("SEGMENT_WRITE_KEY"):
    segment_write_key = "stand-in"
    segment_host = os.environ["SEGMENT_STAND_IN"]
    segment_allow_http = True

# A worker delivers what waits once there are 20 messages, or after 10 seconds.
segment_flush_at = 20
segment_flush_interval = 10.0

# The buffer lives in the broker's Redis; segment_redis_url names another.

# Further sources: Analytics("marketing").track.delay(...). Most settings may differ from
# source to source. Delete this one if you have no second source.
segment_sources = {
    "marketing": {
        "write_key": os.environ.get("SEGMENT_MARKETING_WRITE_KEY"),
        "flush_at": 100,
    },
}
