"""The application whose tasks a request of test_visitor_in_tasks.py starts."""

from __future__ import annotations

from celery_segment import context, track
from workerapp import app


@app.task(name="tests.first", bind=True, ignore_result=True, max_retries=1)
def first(self, *, retries=0):
    """Track; be retried so often; start a task."""
    if self.request.retries < retries:
        raise self.retry(countdown=0)
    track.delay(event="First")
    second.delay()


@app.task(name="tests.second", ignore_result=True)
def second():
    """Track about the visitor, and about another person."""
    track.apply_async((), {"event": "Second"}, countdown=0.1)
    track.delay("another", "Banned")


@app.task(name="tests.chained", ignore_result=True)
def chained():
    """Be a part of a canvas."""
    track.delay(event="Chained")


@app.task(name="tests.replaced", bind=True, ignore_result=True)
def replaced(self):
    """Have another task in its place, from a block about another person."""
    with context(user_id="another"):
        raise self.replace(chained.si())
