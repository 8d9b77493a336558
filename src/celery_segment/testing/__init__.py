"""A local Segment endpoint and a real Redis, for tests of what uses this library."""

from __future__ import annotations

from celery_segment.testing.redis import EmbeddedRedis
from celery_segment.testing.reply import Reply
from celery_segment.testing.server import Received, SegmentServer

__all__ = ["EmbeddedRedis", "Received", "Reply", "SegmentServer"]
