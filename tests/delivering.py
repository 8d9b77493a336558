"""A request as a worker makes it, without a buffer."""

from __future__ import annotations

from datetime import datetime, timezone

from celery_segment.config import load
from celery_segment.delivery import transport
from celery_segment.delivery.authorization import by_write_key
from celery_segment.delivery.request import build
from support import WRITE_KEY

MESSAGES = b'{"type":"track","messageId":"m1"},{"type":"track","messageId":"m2"},'


def source_of(host, **conf):
    given = {"segment_host": host, "segment_write_key": WRITE_KEY, **conf}
    return load({**given, "broker_url": "memory://"}, {}).source("default")


def post(host, requests=0, **conf):
    source = source_of(host, **conf)
    now = datetime.now(timezone.utc)
    return transport.post(
        build(source, by_write_key(source.write_key), MESSAGES, requests, now), source
    )
