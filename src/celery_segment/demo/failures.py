"""The endpoint's failures: about one request in ten, seeded."""

from __future__ import annotations

import itertools
import random
import threading

from celery_segment.testing import Reply
from celery_segment.testing.protocol import Request

__all__ = ["Failures"]

SHARE = 0.1
REPLIES = (
    Reply.status(500, body=""),
    Reply.close(),
    Reply.status(429, body="", retry_after=1),
    Reply.accept_then_close(),
    Reply.slow(1.5),
)


class Failures:
    """A rule for ``SegmentServer.rule`` that lets random requests fail.

    The kinds of failures alternate.
    """

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self._replies = itertools.cycle(REPLIES)
        self._lock = threading.Lock()

    def __call__(self, _: Request) -> Reply | None:
        """Return a failure, or None for a normal response."""
        with self._lock:
            return next(self._replies) if self._chance.random() < SHARE else None
