"""Tools for tests of applications: an outbox, a local Segment endpoint, a real Redis."""

from __future__ import annotations

from celery_segment.producer.recording import real_buffer
from celery_segment.producer.watched_plans import Violated
from celery_segment.testing.expectation import Tracked
from celery_segment.testing.outbox import Outbox
from celery_segment.testing.redis import EmbeddedRedis
from celery_segment.testing.reply import Reply
from celery_segment.testing.server import Received, SegmentServer

__all__ = [
    "EmbeddedRedis",
    "Outbox",
    "Received",
    "Reply",
    "SegmentServer",
    "Tracked",
    "Violated",
    "real_buffer",
]
