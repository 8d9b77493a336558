"""An example of a Celery configuration with celery-segment.

    export SEGMENT_WRITE_KEY=...        # in the workers' environment; never in a file
    celery --config celeryconfig worker
    celery --config celeryconfig segment status --watch

To use it in an application, call ``app.config_from_object("celeryconfig")``.
"""

import os

# ---------------------------------------------------------------- Celery

# May contain a password, such as redis://:password@redis.example.com:6379/0.
broker_url = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
broker_connection_retry_on_startup = True

# Registers the six calls and the workers' tasks.
imports = ["celery_segment"]

# A delivery mostly waits for the network, so use more processes than cores. Each process
# reserves one task at a time, which distributes a backlog evenly.
worker_concurrency = 8
worker_prefetch_multiplier = 1
# Seconds that a cold shutdown (SIGQUIT) waits for running requests. SIGTERM always waits for
# them. If a delivery is interrupted, another worker takes its batch over.
worker_soft_shutdown_timeout = 20.0

# ---------------------------------------------------------------- celery-segment

# The write key of the default source is read from the environment variable SEGMENT_WRITE_KEY.
# Only workers need it; processes without it can still store messages.

_other_key = None

# The endpoint of your workspace's region; in Europe https://events.eu1.segmentapis.com.
segment_host = os.environ.get("SEGMENT_HOST") or "https://api.segment.io"

# docker-compose.yml runs a stand-in for Segment, which is used while there is no write key. It
# accepts any key, and has no TLS.
if os.environ.get("SEGMENT_STAND_IN") and not os.environ.get("SEGMENT_WRITE_KEY"):
    segment_write_key = _other_key = "stand-in"
    segment_host = os.environ["SEGMENT_STAND_IN"]
    segment_allow_http = True

# Workers deliver all that waits about four times a second. Upper limits, which are reached only
# while no worker is free:
segment_flush_at = 20
segment_flush_interval = 10.0

# Half of the processes of a worker may deliver at the same time; the others run your tasks.
segment_worker_share = 0.5

# The buffer is stored in the broker's Redis. Set segment_redis_url to use another one. Calls are
# refused while that Redis uses more than this share of its maxmemory, so that the broker works on.
segment_max_memory_share = 0.75

# More sources, used as Analytics("marketing").track.delay(...). Each may override most
# settings. Delete this one if you have a single source.
segment_sources = {
    "marketing": {
        "write_key": os.environ.get("SEGMENT_MARKETING_WRITE_KEY") or _other_key,
        "flush_at": 100,
    },
}
