"""``Analytics``: the calls and the operations of one source."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Generic, NoReturn, ParamSpec

from celery import current_app
from celery._state import get_current_worker_task

from celery_segment.buffer import Snapshot, load_client
from celery_segment.calls import api
from celery_segment.calls.bound import BoundCall
from celery_segment.calls.identity import repeatable
from celery_segment.calls.task import Call
from celery_segment.config import DEFAULT_SOURCE
from celery_segment.operations.admin import SourceAdmin, admin_of
from celery_segment.operations.dead_letters import DeadLetters
from celery_segment.operations.flush import Flush, wait_for
from celery_segment.operations.forget import Forgotten, forget
from celery_segment.operations.moving import rename
from celery_segment.runtime import Runtime, runtime_of

__all__ = ["Analytics"]

P = ParamSpec("P")


class _Bind(Generic[P]):
    """Descriptor that binds a call to the source of an ``Analytics``."""

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
        source: The name of the source in ``segment_sources``.
        app: The Celery application; by default the current one.

    Attributes:
        app: The Celery application.
        source: The name of the source.

    Raises:
        ConfigurationError: The source is not configured, or a setting is wrong.
    """

    def __init__(self, source: str = DEFAULT_SOURCE, *, app: Any = None) -> None:
        app = app or current_app
        # Resolved now: in another thread, the proxy may stand for another application.
        self.app = getattr(app, "_get_current_object", lambda: app)()
        settings = self._runtime.settings.source(source)
        self.source = settings.name
        if settings.enabled:
            load_client()

    def __repr__(self) -> str:
        return f"Analytics({self.source!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Analytics cannot be pickled: create one where it is used")

    identify = _Bind(api.identify)
    track = _Bind(api.track)
    page = _Bind(api.page)
    screen = _Bind(api.screen)
    group = _Bind(api.group)
    alias = _Bind(api.alias)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Store the calls made inside a ``with`` block in one round trip, at its end."""
        with repeatable(), self._runtime.producer(self.source).batch():
            yield

    @asynccontextmanager
    async def abatch(self) -> AsyncIterator[None]:
        """Do as ``batch``, by ``async with``: the event loop is not blocked at the block's end.

        Its calls, ``adelay`` and ``delay`` alike, wait for nothing.
        """
        with repeatable():
            async with self._runtime.producer(self.source).abatch():
                yield

    def flush(self, timeout: float = 30.0) -> int:
        """Have the workers deliver all that is stored now, and wait for it.

        Within a Celery task it is delivered in this process, if that has the source's write key:
        the workers may be waiting for this very task.

        Returns:
            The number of messages that remain after ``timeout`` seconds; 0 when
            each was delivered, or became a dead letter, or the source is not enabled.
        """
        if not self._is_to_deliver:
            return wait_for([Flush(self._runtime, self.source)], timeout)
        return self._flush_here(timeout)

    async def aflush(self, timeout: float = 30.0) -> int:
        """Do as ``flush``, without blocking the event loop.

        Returns:
            The number of messages that remain after ``timeout`` seconds.
        """
        # Loaded by whoever calls on an event loop.
        import asyncio

        from celery_segment.aio.bridge import run

        if self._is_to_deliver:
            return await asyncio.to_thread(self._flush_here, timeout)
        return await run(self._flush_on_loop, timeout)

    def _flush_on_loop(self, timeout: float) -> int:
        runtime = self._runtime.on_loop()
        return wait_for([Flush(runtime, self.source)], timeout, waits=runtime.waits)

    @property
    def _is_to_deliver(self) -> bool:
        """Whether a flush is to deliver here, since the workers may wait for the caller."""
        has_key = self._runtime.settings.source(self.source).write_key is not None
        return get_current_worker_task() is not None and has_key

    def _flush_here(self, timeout: float) -> int:
        flush = Flush(self._runtime, self.source, wake=False)
        self._deliver(timeout, until=flush.is_settled)
        return flush.remaining

    def deliver(self, timeout: float | None = None) -> int:
        """Deliver all that is stored, in this process: no worker and no broker is needed.

        Returns:
            The number of messages that remain: those of a source that is paused, whose write key
            this process lacks, or whose configuration the endpoint refuses, or what was not
            delivered within ``timeout`` seconds.

        Raises:
            BufferUnavailable: Redis did not answer; nothing is lost.
            ConfigurationError: The private key of ``segment_oauth`` cannot sign.
        """
        return self._deliver(timeout)

    def _deliver(self, timeout: float | None, **options: Any) -> int:
        # The HTTP client is loaded by whoever delivers, not by the calls.
        from celery_segment.worker.inprocess import deliver, deliverers_of

        return deliver(deliverers_of(self.app, self.source), timeout=timeout, **options)

    def stats(self) -> Snapshot:
        """Return the current figures of the source."""
        return self._admin.snapshot()

    def pause(self) -> bool:
        """Stop delivery until ``resume`` is called; calls are still stored.

        Returns:
            False if the source was already paused.
        """
        return self._admin.pause()

    def resume(self) -> float:
        """Resume delivery at once, also after a pause because of failures of the endpoint.

        Returns:
            Seconds for which a Retry-After of the endpoint still keeps the source closed; 0
            if there is none.
        """
        wait = self._admin.resume()
        if not wait:
            self._runtime.wake(self.source)
        return wait

    def move_from(self, old: str, timeout: float | None = None) -> int:
        """Move all that is stored of another source into this one, after a source was renamed.

        Its batches, callbacks, dead letters and totals are moved; then its keys are deleted. A
        batch that a worker holds is moved once that worker's lease has expired. A move may be
        interrupted, and repeated: it loses and doubles nothing.

        Args:
            old: The name of the other source, which need not be configured any more.
            timeout: Seconds to wait for what workers hold; no limit when left out.

        Returns:
            The number of messages that remain in the other source.

        Raises:
            ConfigurationError: This source is ``old``, or is not enabled.
            SegmentBufferError: Redis did not answer, or another process moves ``old`` as well.
        """
        if self._runtime.captures:
            return 0
        return rename(self.app, old, self.source).run(timeout)

    def forget(
        self,
        *,
        user_id: str | Iterable[str] = (),
        anonymous_id: str | Iterable[str] = (),
        dry_run: bool = False,
    ) -> Forgotten:
        """Delete the messages of one person that wait, and those of dead letters.

        A message is the person's if its ``userId`` or ``anonymousId`` is given, or the
        ``previousId`` of an alias. What a worker delivers at this moment is left, and counted.
        A run may be interrupted, and repeated.

        Args:
            user_id: The person's id, or several.
            anonymous_id: The person's anonymous id, or several.
            dry_run: Count the messages, and change nothing.

        Raises:
            ValidationError: There is no id, or an id is empty.
            SegmentBufferError: Redis did not answer.
        """
        ids = {"user_ids": _all_of(user_id), "anonymous_ids": _all_of(anonymous_id)}
        return forget(self.app, self.source, **ids, dry_run=dry_run)

    @property
    def dead_letters(self) -> DeadLetters:
        """The dead letters of the source."""
        return DeadLetters(self._runtime, self.source)

    @property
    def _runtime(self) -> Runtime:
        return runtime_of(self.app)

    @property
    def _admin(self) -> SourceAdmin:
        # Created when needed, since a source that is not enabled may have no Redis.
        return admin_of(self._runtime, self.source)


def _all_of(ids: str | Iterable[str]) -> list[str]:
    return [ids] if isinstance(ids, str) else list(ids)
