"""Settings loaded of a Celery application: for tests/unit/config."""

from __future__ import annotations

import pytest
from celery import Celery

from celery_segment import ConfigurationError
from celery_segment.config import load

SECRET = "s3cretwr1tek3y"
PASSWORD = "p4ssw0rd"

#: The settings of a source and their defaults.
DEFAULTS = {
    "write_key": None,
    "oauth": None,
    "host": "https://api.segment.io",
    "allow_http": False,
    "enabled": True,
    "flush_at": 20,
    "flush_interval": 10.0,
    "max_batch_bytes": 500_000,
    "max_batch_messages": 2_500,
    "max_buffer_bytes": None,
    "on_full": "raise",
    "on_unavailable": "raise",
    "context": None,
    "integrations": None,
    "before_send": None,
    "on_delivered": None,
    "on_failed": None,
    "gzip": True,
    "timeout": 15.0,
    "proxies": None,
    "ca_bundle": None,
    "max_retries": 10,
    "retry_for": 12 * 3600.0,
    "max_inflight": 32,
    "lease": 120.0,
    "max_dead_bytes": 100_000_000,
    "dead_retention": None,
}


def application(**conf):
    app = Celery("tests", set_as_current=False)
    app.conf.update({"broker_url": "redis://localhost:6379/0", **conf})
    return app


def configured(environ=(), **conf):
    return load(application(**conf).conf, dict(environ))


def source(name="default", **conf):
    return configured(**conf).source(name)


def refusal(**conf):
    with pytest.raises(ConfigurationError) as caught:
        configured(**conf)
    return str(caught.value)
