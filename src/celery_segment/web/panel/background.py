"""What takes longer to read than a page may take."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

from celery_segment.operations.remote import in_thread

__all__ = ["Background"]

T = TypeVar("T")


class Background(Generic[T]):
    """A value that a thread reads again while it is asked for: no page waits for it.

    Args:
        read: Reads the value.
        seconds: How old it is to be when it is read again.
    """

    def __init__(self, read: Callable[[], T], seconds: float) -> None:
        self._read, self._seconds = read, seconds
        self._lock = Lock()
        self._reading: Future[T] | None = None
        self._value: T | None = None
        self._read_at = float("-inf")

    def latest(self) -> T | None:
        """Return the value that was read last; None before it was read once.

        Raises:
            Exception: What the reading raised.
        """
        with self._lock:
            reading = self._reading
            if reading is None:
                if time.monotonic() - self._read_at >= self._seconds:
                    self._reading = in_thread(self._read)
            elif reading.done():
                self._reading, self._read_at = None, time.monotonic()
                self._value = reading.result()
            return self._value
