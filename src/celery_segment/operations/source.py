"""One source's calls, and what its operator asks of it."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import Any, Generic, NoReturn, ParamSpec

from celery import current_app
from celery.result import AsyncResult

from celery_segment.buffer import Buffer, Snapshot, buffer_of
from celery_segment.calls import api
from celery_segment.calls.task import Call
from celery_segment.config import DEFAULT_SOURCE, settings_of
from celery_segment.operations.dead_letters import DeadLetters
from celery_segment.producer.producer import collect, producer_of
from celery_segment.producer.wake import wake

__all__ = ["Analytics", "BoundCall"]

P = ParamSpec("P")

#: Seconds between two looks at what remains, while a flush waits.
POLL = 0.05


class BoundCall(Generic[P]):
    """A call of one source: a task whose ``source`` is given."""

    def __init__(self, task: Call[P], source: str) -> None:
        self._task = task
        self._source = source

    def __repr__(self) -> str:
        return f"<{self._task.name} of source {self._source!r}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Store the message and return its messageId."""
        return self._task(*args, **self._named(kwargs))

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult:
        """Store the message; return a result whose id is its messageId."""
        return self._task.delay(*args, **self._named(kwargs))

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> AsyncResult:
        """Store the message, or send it through the broker where an option asks for that."""
        return self._task.apply_async(args, self._named(kwargs or {}), **options)

    def delay_on_commit(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult:
        """Store the message once Django's transaction commits."""
        return self._task.apply_async_on_commit(args, self._named(kwargs))

    def s(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Return a Celery signature."""
        return self._task.s(*args, **self._named(kwargs))

    def si(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Return an immutable Celery signature."""
        return self._task.si(*args, **self._named(kwargs))

    def _named(self, kwargs: dict[str, Any]) -> Any:
        if "source" in kwargs:
            raise TypeError(f"{self!r} takes no argument 'source': it has one")
        return {**kwargs, "source": self._source}


class _Bind(Generic[P]):
    """A call as an attribute of ``Analytics``."""

    def __init__(self, call: Call[P]) -> None:
        self._call = call

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"segment.{name}"

    def __get__(self, analytics: Analytics, owner: type) -> BoundCall[P]:
        task: Call[P] = analytics.app.tasks[self._name]
        return BoundCall(task, analytics.source)


class Analytics:
    """The calls of one source.

    ::

        marketing = Analytics("marketing")
        marketing.track.delay(user_id="019mr8mf4r", event="Item Purchased")

    Args:
        source: Its name in ``segment_sources``.
        app: The Celery application; the current one when left out.

    Raises:
        ConfigurationError: There is no such source, or a setting is wrong.
    """

    def __init__(self, source: str = DEFAULT_SOURCE, *, app: Any = None) -> None:
        self.app = app or current_app._get_current_object()  # noqa: SLF001 - Celery's documented way
        self.source = settings_of(self.app).source(source).name

    def __repr__(self) -> str:
        return f"Analytics({self.source!r})"

    @property
    def _buffer(self) -> Buffer:
        # Asked for when needed: a source that is not enabled may have no Redis.
        return buffer_of(self.app, self.source)

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Analytics is made where it is used: it holds connections")

    identify = _Bind(api.identify)
    track = _Bind(api.track)
    page = _Bind(api.page)
    screen = _Bind(api.screen)
    group = _Bind(api.group)
    alias = _Bind(api.alias)

    def batch(self) -> AbstractContextManager[None]:
        """Store the calls made inside a ``with`` block in one round trip, at its end."""
        return collect(self.app, self.source)

    def flush(self, timeout: float = 30.0) -> int:
        """Have the workers deliver all that is stored now, and wait for it.

        Returns:
            The number of messages that remain after ``timeout`` seconds; 0 when
            each was delivered, or became a dead letter, or the source is not enabled.
        """
        if not producer_of(self.app, self.source).enabled:
            return 0
        deadline = time.monotonic() + timeout
        mark = self._buffer.mark()
        remaining = self._buffer.remaining(mark)
        if remaining:
            wake(self.app, self.source)
        while remaining and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(POLL, left))
            remaining = self._buffer.remaining(mark)
        return remaining

    def stats(self) -> Snapshot:
        """Return the source's figures at this moment."""
        return self._buffer.snapshot()

    def pause(self) -> bool:
        """Stop delivery until resumed, while calls go on being stored; return whether it ran."""
        return self._buffer.pause()

    def resume(self) -> float:
        """Deliver again; return the seconds of a wait that the endpoint itself asked for."""
        wait = self._buffer.resume()
        if not wait:
            wake(self.app, self.source)
        return wait

    @property
    def dead_letters(self) -> DeadLetters:
        """The messages that were given up."""
        return DeadLetters(self.app, self._buffer)
