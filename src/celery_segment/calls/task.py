"""A call of Segment's API as a Celery task: validate, store, wake a worker.

``.delay(...)`` and all that Celery makes of it come here and go straight to Redis, in
one round trip and without a task message, unless an option asks for what only a broker
can do (a countdown, a queue, a chord). The task's body does the same, for messages that
did travel through the broker.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, ParamSpec

from celery import Signature, Task
from celery.result import AsyncResult

from celery_segment import messages
from celery_segment.calls.attachments import keeps_results, kept, traced
from celery_segment.calls.eager import Eager
from celery_segment.calls.results import SentResult, StoredResult
from celery_segment.errors import ConfigurationError, SegmentBufferError
from celery_segment.producer.producer import Producer, producer_of
from celery_segment.tracing import span_of_call
from celery_segment.visitor import present, within

__all__ = ["Built", "Call"]

P = ParamSpec("P")
Built = tuple[str, messages.Message]

#: Options of apply_async that mean nothing to a message that is stored at once, or are
#: kept with it. Any other sends the call through the broker.
_INERT = frozenset(
    (
        *("add_to_parent", "compression", "connection", "delivery_mode", "group_id"),
        *("group_index", "headers", "origin", "parent_id", "priority", "producer"),
        *("reply_to", "retry", "retry_policy", "root_id", "route_name", "serializer", "shadow"),
        *("soft_time_limit", "stamped_headers", "time_limit", "link", "link_error"),
    )
)
#: Those that carry what else a canvas has to run.
_CANVAS = frozenset(("chain", "chord", "replaced_task_nesting"))
#: Seconds between attempts of a task's body to reach Redis.
_BODY_RETRY = 5.0
#: The header of a task message that a call has validated and prepared.
_HEADER = "segment"


class Ready(NamedTuple):
    """A call that was validated: what is to be stored, and where.

    ``data`` is None when ``segment_before_send`` dropped the message; ``trace`` is the
    trace context of the call, if it has one.
    """

    producer: Producer
    message_id: str
    data: bytes | None
    trace: bytes


class Call(Task, Generic[P]):
    """A call of Segment's API as a Celery task.

    ``track(...)``, ``track.delay(...)``, ``track.apply_async(...)``, signatures,
    groups, chains and ``track.delay_on_commit(...)`` all store one message.

    Raises:
        ValidationError: An argument is refused, in the caller's process.
        BufferUnavailable: Redis is out of reach; nothing is known to be stored.
        BufferFull: Redis has no room; nothing was stored.
        ConfigurationError: The ``segment_*`` settings are wrong.
    """

    abstract = True
    ignore_result = True
    serializer = "json"
    # A message that travels through the broker has no other copy there.
    acks_late = True
    reject_on_worker_lost = True
    max_retries = None

    build: Callable[..., Built]

    def __init__(self) -> None:
        self._producers: dict[str, Producer] = {}
        self._eager: Eager | None = None

    def body(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Store the message and return its messageId: what a worker runs, and a direct call."""
        request = self.request
        if request.called_directly:
            ready = self._ready(args, kwargs, None)
            if ready.data is not None:
                ready.producer.store(ready.data, traced(ready.trace))
            return ready.message_id
        sent = (request.headers or {}).get(_HEADER) or {}
        prepared = bool(sent.get("prepared"))
        # A redelivered task must not mint a second messageId, and a prepared message has
        # all that there was to add, also where Celery is eager and the request present.
        with within(None if prepared else present()):
            ready = self._ready(args, kwargs, request.id, prepared=prepared)
        if sent.get("trace"):
            ready = ready._replace(trace=sent["trace"].encode())
        link, link_error = request.callbacks, request.errbacks
        if ready.data is not None:
            attachments = kept(
                request.id,
                ready.message_id,
                ready.trace,
                link,
                link_error,
                receipt=bool(sent.get("receipt")),
            )
            try:
                ready.producer.store(ready.data, attachments)
            except SegmentBufferError as error:
                if request.is_eager:
                    raise
                raise self.retry(
                    exc=error, countdown=_BODY_RETRY, kwargsrepr=request.kwargsrepr
                ) from None
        if request.is_eager:  # no worker will ever look
            ready.producer.wake()
        # They are called once the message is delivered, not now.
        request.callbacks = request.errbacks = None
        return ready.message_id

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult:
        """Store the message; return a result whose id is its messageId."""
        eager = self._eager
        if eager is None:
            eager = self._eager = Eager(self.app)
        if eager:
            return self.apply_async(args, kwargs)
        source, message = self.build(*args, **kwargs)
        producer = self._producer(source)
        data = producer.prepare(message)
        if data is not None:
            producer.store(data, traced(span_of_call()))
        return StoredResult(message.message_id, message.message_id)

    def apply_async(
        self, args: Any = None, kwargs: Any = None, task_id: str | None = None, **options: Any
    ) -> AsyncResult:
        """Store the message, or send it through the broker where an option asks for that.

        Takes Celery's options. The message is validated here in either case, and has the
        id and the timestamp of this moment. ``link`` and ``link_error`` are called once it
        is delivered, or given up; with ``ignore_result=False`` the result is its receipt,
        whose ``get()`` waits for that.
        """
        if options.get("retries"):  # validated by the call that it repeats
            result: AsyncResult = super().apply_async(args, kwargs, task_id=task_id, **options)
            return result
        return self._dispatch(self._ready(args, kwargs, task_id), task_id, **options)

    if TYPE_CHECKING:  # Celery's own, typed by the call's signature

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> str: ...  # noqa: D102
        def s(self, *args: P.args, **kwargs: P.kwargs) -> Signature: ...  # noqa: D102
        def si(self, *args: P.args, **kwargs: P.kwargs) -> Signature: ...  # noqa: D102

    def delay_on_commit(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult:
        """Store the message once Django's transaction commits; validate it now."""
        return self.apply_async_on_commit(args, kwargs)

    def apply_async_on_commit(
        self, args: Any = None, kwargs: Any = None, task_id: str | None = None, **options: Any
    ) -> AsyncResult:
        """As ``delay_on_commit``, with Celery's options."""
        from django.db import transaction

        ready = self._ready(args, kwargs, task_id)
        transaction.on_commit(partial(self._dispatch, ready, task_id, **options))
        return self.AsyncResult(task_id or ready.message_id)

    def _ready(
        self, args: Any, kwargs: Any, task_id: str | None, *, prepared: bool = False
    ) -> Ready:
        """Build the message; a task id that Celery froze becomes its messageId."""
        args, kwargs = args or (), kwargs or {}
        if task_id is not None:
            given = inspect.signature(self.build).bind(*args, **kwargs).arguments
            if given.get("message_id") is None:
                given["message_id"] = task_id
            args, kwargs = (), given
        source, message = self.build(*args, **kwargs)
        producer = self._producer(source)
        data = messages.encode(message) if prepared else producer.prepare(message)
        return Ready(producer, message.message_id, data, span_of_call())

    def _producer(self, source: str) -> Producer:
        try:
            return self._producers[source]
        except (KeyError, TypeError):
            producer = self._producers[source] = producer_of(self.app, source)
            return producer

    def _dispatch(
        self,
        ready: Ready,
        task_id: str | None,
        *,
        link: Any = None,
        link_error: Any = None,
        ignore_result: bool | None = None,
        **options: Any,
    ) -> AsyncResult:
        """Store a message, or send it through the broker where an option asks for that."""
        producer, message_id, data, trace = ready
        task_id = task_id or message_id
        receipt = ignore_result is False and producer.enabled
        if receipt and not keeps_results(self.app):
            raise ConfigurationError(
                "ignore_result=False asks for a receipt, which a result backend keeps: set"
                " result_backend, in this process and the workers'"
            )
        if data is None:
            return StoredResult(task_id, message_id)
        asks = {name for name, value in options.items() if value is not None} - _INERT
        if not producer.enabled:  # nothing travels, so nothing has to wait or be routed
            asks &= _CANVAS
        if asks or self.app.conf.task_always_eager:
            named = {**messages.call_arguments(data), "source": producer.source}
            mark = {_HEADER: {"prepared": True, "receipt": receipt, "trace": trace.decode()}}
            options["headers"] = {**(options.get("headers") or {}), **mark}
            # In the place of a payload, in Flower and in Celery's events.
            options.setdefault("kwargsrepr", f"{producer.source}, message {message_id}")
            result: AsyncResult = super().apply_async(
                (), named, task_id=task_id, link=link, link_error=link_error, **options
            )
            return self._receipt(task_id) if receipt else result
        producer.store(data, kept(task_id, message_id, trace, link, link_error, receipt=receipt))
        return self._receipt(task_id) if receipt else StoredResult(task_id, message_id)

    def _receipt(self, task_id: str) -> AsyncResult:
        return AsyncResult(task_id, app=self.app, backend=self.backend, task_name=self.name)

    def AsyncResult(self, task_id: str, **kwargs: Any) -> SentResult:  # noqa: N802 - Celery's name
        """Return the result of a call that is frozen in a signature, or sent to the broker."""
        return SentResult(task_id, app=self.app, task_name=self.name, **kwargs)
