"""What the tests have called: each writes down, in a list in Redis, what it was told."""

from __future__ import annotations

import os
from functools import cache

import redis
from celery import current_app, shared_task


@cache
def client_of(url, process):  # noqa: ARG001 - a connection is of one process
    """Return a client for all that a process notes."""
    return redis.Redis.from_url(url)


def note(name, what):
    names = ("notes_url", "segment_redis_url", "broker_url")
    url = next(filter(None, map(current_app.conf.get, names)))
    client_of(url, os.getpid()).rpush(name, what)


@shared_task(name="tests.delivered")
def delivered(message_id):
    note("delivered", message_id)


@shared_task(name="tests.failed")
def failed(message_id):
    note("failed", message_id)


@shared_task(name="tests.failed_inline")
def failed_inline(request, exc, _traceback):
    note("failed_inline", f"{request.id} {type(exc).__name__} {exc}")


@shared_task(name="tests.breaks")
def breaks(*_):
    note("breaks", "called")
    raise RuntimeError("a callback that fails")


@shared_task(name="tests.told")
def told(source, batch, messages, bytes, cause):  # noqa: A002 - the library's word for it
    note("told", f"{source} {batch} {messages} {bytes > 0} {cause}")


def hear(batch):
    events = " ".join(message["event"] for message in batch.contents())
    note("heard", f"{batch.source} {batch.messages} {batch.cause} {events}")


def hear_and_break(batch):
    hear(batch)
    raise RuntimeError("a hook that fails")
