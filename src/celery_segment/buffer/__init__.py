"""The buffer: where accepted messages lie, in Redis, until they are settled."""

from __future__ import annotations

import weakref
from threading import Lock
from typing import Any

from celery_segment.buffer.body import ENVELOPE, messages_of
from celery_segment.buffer.buffer import NOTHING, Buffer, parts_of
from celery_segment.buffer.types import (
    Attachments,
    AttachmentsByPlace,
    BatchRef,
    Closed,
    DeadLetter,
    DeadLettersFull,
    Gone,
    Lease,
    LeasedElsewhere,
    Settled,
    Snapshot,
    Stale,
)
from celery_segment.config import DEFAULT_SOURCE, settings_of
from celery_segment.errors import ConfigurationError

__all__ = [
    "ENVELOPE",
    "NOTHING",
    "Attachments",
    "AttachmentsByPlace",
    "BatchRef",
    "Buffer",
    "Closed",
    "DeadLetter",
    "DeadLettersFull",
    "Gone",
    "Lease",
    "LeasedElsewhere",
    "Settled",
    "Snapshot",
    "Stale",
    "buffer_of",
    "messages_of",
    "parts_of",
]

_BY_APP: weakref.WeakKeyDictionary[Any, dict[str, Buffer]] = weakref.WeakKeyDictionary()
_lock = Lock()


def buffer_of(app: Any, source: str = DEFAULT_SOURCE) -> Buffer:
    """Return the buffer of a source of a Celery application.

    Raises:
        ConfigurationError: The settings are wrong, there is no such source, or
            no Redis is configured.
    """
    try:
        return _BY_APP[app][source]
    except KeyError:
        with _lock:
            return _open(app)[settings_of(app).source(source).name]


def _open(app: Any) -> dict[str, Buffer]:
    """Make the buffers of all sources on one pool."""
    from celery_segment.buffer.pool import Pool

    settings = settings_of(app)
    if app not in _BY_APP:
        if not settings.redis_url:
            raise ConfigurationError(
                f"segment_redis_url is needed, such as redis://localhost:6379/0: the broker of"
                f" {app.main or 'this'!r} is not a Redis that could hold the buffer. (Where that is"
                " not your Celery application, it is not the current one in this thread: call its"
                " set_default())"
            )
        pool = Pool(settings.redis_url, settings.redis_timeout)
        # Else the garbage collector finds open sockets, and complains.
        weakref.finalize(app, pool.close).atexit = False
        _BY_APP[app] = {name: Buffer(pool, s) for name, s in settings.sources.items()}
    return _BY_APP[app]
