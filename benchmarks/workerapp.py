"""The Celery application of the worker that delivers the events, and of live calls."""

from __future__ import annotations

from celery import Celery

app = Celery("bench")
app.config_from_object("benchmarks.celeryconfig")
