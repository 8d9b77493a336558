"""A call that is awaited: it stores its message without blocking the event loop."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, ParamSpec

from celery import uuid

from celery_segment.calls.fixed import FixedTask
from celery_segment.calls.refusal import is_refused
from celery_segment.calls.results import CallResult, DroppedResult, StoredResult
from celery_segment.runtime import Runtime, runtime_of

if TYPE_CHECKING:
    from celery_segment.messages import Message

__all__ = ["CallOnLoop"]

P = ParamSpec("P")


class CallOnLoop(FixedTask, Generic[P]):
    """The part of a call's task that runs on an event loop."""

    abstract = True

    build: Callable[..., tuple[str, Message]]
    _publish: Callable[..., str]

    @cached_property
    def _runtime(self) -> Runtime:
        return runtime_of(self.app)

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> CallResult:
        """Do as ``delay``, on a connection of the running event loop, which is not blocked.

        The message is stored when this returns. Where it is cancelled, the message is either
        stored or not, and never stored later.
        """
        # Loaded by whoever calls on an event loop.
        import asyncio

        from celery_segment.aio.bridge import run

        if self._runtime.eager:  # tasks run at once, and block
            return await asyncio.to_thread(self.apply_async, args, kwargs)
        runtime = self._runtime.on_loop()
        await runtime.begin()
        return await run(self._delay_on_loop, runtime, args, kwargs)

    def _delay_on_loop(self, runtime: Runtime, args: Any, kwargs: Any) -> CallResult:
        from celery_segment.aio.bridge import limit

        limit(runtime.settings.redis_timeout)
        try:
            message_id = self._publish(runtime, args, kwargs)
        except Exception as error:
            if not is_refused(runtime, self.build, args, kwargs, error):
                raise
            return DroppedResult(uuid())
        return StoredResult(message_id, message_id)
