"""Delivery: a claimed batch is posted and settled."""

from __future__ import annotations

from celery_segment.delivery.courier import Report, attempt

__all__ = ["Report", "attempt"]
