"""Calls whose source is fixed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec

from celery import group

if TYPE_CHECKING:
    from celery import Signature

    from celery_segment.calls.results import CallResult
    from celery_segment.calls.task import Call

__all__ = ["BoundCall"]

P = ParamSpec("P")


class BoundCall(Generic[P]):
    """A ``Call`` whose ``source`` is fixed, with the methods of a Celery task.

    ``map``, ``starmap`` and ``chunks`` return a group of signatures. Celery's own would
    return a task that loops over the items in a worker, to save task messages. A call that
    is stored has no task message, and Celery's loop would lose the source.
    """

    def __init__(self, task: Call[P], source: str) -> None:
        self._task = task
        self._source = source

    def __repr__(self) -> str:
        return f"<{self.name} of source {self._source!r}>"

    @property
    def name(self) -> str:
        """The task's name, such as "segment.track"."""
        name: str = self._task.name
        return name

    @property
    def app(self) -> Any:
        """The Celery application."""
        return self._task.app

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Store the message and return its messageId."""
        return self._task(*args, **self._with_source(kwargs))

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> CallResult:
        """Store the message; return a result whose id is its messageId."""
        return self._task.delay(*args, **self._with_source(kwargs))

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> CallResult:
        """Do as ``delay``, without blocking the event loop."""
        return await self._task.adelay(*args, **self._with_source(kwargs))

    def apply_async(
        self, args: Any = None, kwargs: Any = None, task_id: str | None = None, **options: Any
    ) -> CallResult:
        """Store the message, or send it through the broker if an option requires that."""
        return self._task.apply_async(args, self._with_source(kwargs or {}), task_id, **options)

    def delay_on_commit(self, *args: P.args, **kwargs: P.kwargs) -> CallResult:
        """Validate the message now, and store it once Django's transaction commits."""
        return self.apply_async_on_commit(args, kwargs)

    def apply_async_on_commit(
        self, args: Any = None, kwargs: Any = None, task_id: str | None = None, **options: Any
    ) -> CallResult:
        """Do the same as ``delay_on_commit``, with Celery's options."""
        kwargs = self._with_source(kwargs or {})
        return self._task.apply_async_on_commit(args, kwargs, task_id, **options)

    def signature(self, args: Any = None, kwargs: Any = None, **options: Any) -> Signature:
        """Return a Celery signature."""
        made: Signature = self._task.signature(args, self._with_source(kwargs or {}), **options)
        return made

    def s(self, *args: P.args, **kwargs: P.kwargs) -> Signature:
        """Return a Celery signature with these arguments."""
        return self.signature(args, kwargs)

    def si(self, *args: P.args, **kwargs: P.kwargs) -> Signature:
        """Return an immutable Celery signature with these arguments."""
        return self.signature(args, kwargs, immutable=True)

    def map(self, items: Iterable[Any]) -> group:
        """Return a group of calls, each with an item as its first argument."""
        return self.starmap((item,) for item in items)

    def starmap(self, items: Iterable[Iterable[Any]]) -> group:
        """Return a group of calls, each with an item's elements as its arguments."""
        return group([self.signature(tuple(item)) for item in items], app=self.app)

    def chunks(self, items: Iterable[Iterable[Any]], n: int) -> group:  # noqa: ARG002 - Celery's signature
        """Do the same as ``starmap``. Chunks would save nothing, as there are no task messages."""
        return self.starmap(items)

    def _with_source(self, kwargs: dict[str, Any]) -> Any:
        if "source" in kwargs:
            raise TypeError(f"{self!r} accepts no argument 'source', since its source is fixed")
        return {**kwargs, "source": self._source}
