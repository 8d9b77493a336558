"""The view: one query, and one event tracked in one of four ways."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import path

from benchmarks.events import EVENT, PROPERTIES, USER
from benchmarks.web.celery import send


def view(_: HttpRequest) -> HttpResponse:
    """Show a user of the database."""
    from django.contrib.auth.models import User

    user = User.objects.get(pk=1)
    track()
    return HttpResponse(f"Hello {user.username}")


def tracker(kind: str) -> Callable[[], Any]:
    """Return what tracks the event."""
    if kind == "ours":
        from celery_segment import track

        return lambda: track.delay(USER, EVENT, PROPERTIES)
    if kind == "library":
        from segment import analytics

        analytics.write_key, analytics.host = "key", os.environ["SEGMENT_BENCH_HOST"]
        return lambda: analytics.track(USER, EVENT, PROPERTIES)
    if kind == "task":
        return lambda: send.delay(USER, EVENT, PROPERTIES)
    return lambda: None


track = tracker(os.environ.get("SEGMENT_BENCH_KIND", "none"))
urlpatterns = [path("", view)]
