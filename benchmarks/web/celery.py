"""The Celery application of the project, and the plain task that an event may be."""

from __future__ import annotations

from typing import Any

from celery import Celery

app = Celery("web")
app.config_from_object("django.conf:settings", namespace="CELERY")


@app.task(ignore_result=True)
def send(user_id: str, event: str, properties: dict[str, Any]) -> None:
    """Stand for a task that would post the event; it does nothing, so that its queue drains."""
