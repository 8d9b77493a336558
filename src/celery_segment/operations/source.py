"""One source: its calls, and what its operator asks of it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Generic, NoReturn, ParamSpec

from celery import current_app

from celery_segment.buffer import BufferAdmin, Snapshot
from celery_segment.calls import api
from celery_segment.calls.bound import BoundCall
from celery_segment.calls.task import Call
from celery_segment.config import DEFAULT_SOURCE
from celery_segment.operations.dead_letters import DeadLetters
from celery_segment.operations.flush import Flush, wait_for
from celery_segment.runtime import Runtime, runtime_of

__all__ = ["Analytics"]

P = ParamSpec("P")


class _Bind(Generic[P]):
    """A call as an attribute of ``Analytics``."""

    def __init__(self, call: Call[P]) -> None:
        self._call = call

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"segment.{name}"

    def __get__(self, analytics: Analytics, owner: type) -> BoundCall[P]:
        return BoundCall(analytics.app.tasks[self._name], analytics.source)


class Analytics:
    """The calls and the operations of one source.

    ::

        marketing = Analytics("marketing")
        marketing.track.delay(user_id="019mr8mf4r", event="Item Purchased")

    Args:
        source: Its name in ``segment_sources``.
        app: The Celery application; the current one when left out.

    Attributes:
        app: The Celery application.
        source: The source's name.

    Raises:
        ConfigurationError: There is no such source, or a setting is wrong.
    """

    def __init__(self, source: str = DEFAULT_SOURCE, *, app: Any = None) -> None:
        app = app or current_app
        # A proxy stands for another application in another thread.
        self.app = getattr(app, "_get_current_object", lambda: app)()
        self.source = self._runtime.settings.source(source).name

    def __repr__(self) -> str:
        return f"Analytics({self.source!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Analytics cannot be pickled: make one where it is used")

    identify = _Bind(api.identify)
    track = _Bind(api.track)
    page = _Bind(api.page)
    screen = _Bind(api.screen)
    group = _Bind(api.group)
    alias = _Bind(api.alias)

    def batch(self) -> AbstractContextManager[None]:
        """Store the calls made inside a ``with`` block in one round trip, at its end."""
        return self._runtime.producer(self.source).batch()

    def flush(self, timeout: float = 30.0) -> int:
        """Have the workers deliver all that is stored now, and wait for it.

        Returns:
            The number of messages that remain after ``timeout`` seconds; 0 when
            each was delivered, or became a dead letter, or the source is not enabled.
        """
        return wait_for([Flush(self._runtime, self.source)], timeout)

    def stats(self) -> Snapshot:
        """Return the source's figures at this moment."""
        return self._admin.snapshot()

    def pause(self) -> bool:
        """Stop delivery until ``resume``, while calls are still stored.

        Returns:
            False where it was paused already.
        """
        return self._admin.pause()

    def resume(self) -> float:
        """Deliver again.

        Returns:
            Seconds for which the endpoint's Retry-After keeps the source closed; 0 for none.
        """
        wait = self._admin.resume()
        if not wait:
            self._runtime.wake(self.source)
        return wait

    @property
    def dead_letters(self) -> DeadLetters:
        """The source's messages that were given up."""
        return DeadLetters(self._runtime, self.source)

    @property
    def _runtime(self) -> Runtime:
        return runtime_of(self.app)

    @property
    def _admin(self) -> BufferAdmin:
        # Asked for when needed: a source that is not enabled may have no Redis.
        return self._runtime.buffer(self.source).admin
