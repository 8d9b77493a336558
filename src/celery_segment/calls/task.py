"""The Celery task of a call: validate the message and publish it.

``.delay(...)`` and Celery's other ways to call a task store the message in the buffer in one
round trip, without a task message. If an option requires the broker (a countdown, a queue, a
chord), the message is sent through the broker, and the task's body stores it in a worker.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Generic, NoReturn, ParamSpec

from celery import Signature, uuid
from celery.exceptions import Reject

from celery_segment.buffer import Attachments
from celery_segment.calls.arguments import check_arguments, hide
from celery_segment.calls.attachments import attachments_of, check_receipts
from celery_segment.calls.delayed import holdable, origin_queue
from celery_segment.calls.identity import given_id, take_back
from celery_segment.calls.on_items import CallOnItems
from celery_segment.calls.plain import plain_arguments
from celery_segment.calls.prepared import HEADER, Prepared, encoded_before, header_of, sent_header
from celery_segment.calls.refusal import is_refused
from celery_segment.calls.results import CallResult, DroppedResult, SentResult, StoredResult
from celery_segment.errors import SegmentBufferError, SegmentError, ValidationError
from celery_segment.messages import Message, call_arguments
from celery_segment.producer import Producer
from celery_segment.runtime import Runtime
from celery_segment.tracing import trace_context
from celery_segment.visitor import Block, acting

__all__ = ["Built", "Call"]

logger = logging.getLogger("celery_segment")

P = ParamSpec("P")
Built = tuple[str, Message]

#: Options of apply_async that do not require the broker: they have no effect on a message that
#: is stored immediately, or are stored with it.
_INERT = frozenset(
    (
        *("add_to_parent", "compression", "connection", "delivery_mode", "group_id"),
        *("group_index", "headers", "origin", "parent_id", "priority", "producer"),
        *("reply_to", "retry", "retry_policy", "root_id", "route_name", "serializer", "shadow"),
        *("soft_time_limit", "stamped_headers", "time_limit", "link", "link_error"),
    )
)
#: Options that contain further tasks of a canvas, which only the broker can run.
_CANVAS = frozenset(("chain", "chord", "replaced_task_nesting"))
#: Seconds between a task's attempts to store its message while Redis is unavailable.
_BODY_RETRY = 5.0
#: The longest wait while there is another reason: each wait is twice the last one.
_LONGEST_RETRY = 60.0
#: Seconds until a message that cannot be sent again is returned to its queue.
_PAUSE = 2.0


class Call(CallOnItems[P], Generic[P]):
    """A call of Segment's API as a Celery task.

    ``track(...)``, ``track.delay(...)``, ``track.apply_async(...)``, signatures,
    groups, chains and ``track.delay_on_commit(...)`` each store one message.

    Raises:
        ValidationError: An argument is invalid. It is raised in the calling process.
        BufferUnavailable: Redis is unreachable; it is not known whether the message is stored.
        BufferFull: Redis has no room; the message is not stored.
        ConfigurationError: A ``segment_*`` setting is wrong.
    """

    abstract = True
    # While a message is sent through the broker, the task message is its only copy.
    acks_late = True
    acks_on_timeout = False
    reject_on_worker_lost = True

    build: Callable[..., Built]

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> CallResult:
        """Store the message; return a result whose id is its messageId."""
        if self._runtime.eager:
            return self.apply_async(args, kwargs)
        try:
            message_id = self._publish(self._runtime, args, kwargs)
        except Exception as error:
            if not is_refused(self._runtime, self.build, args, kwargs, error):
                raise
            return DroppedResult(uuid())
        return StoredResult(message_id, message_id)

    def apply_async(
        self, args: Any = None, kwargs: Any = None, task_id: str | None = None, **options: Any
    ) -> CallResult:
        """Store the message, or send it through the broker if an option requires that.

        The options are Celery's. In either case, the message is validated now, and gets its
        id and timestamp now. ``link`` is called once the message is delivered, ``link_error``
        once it is a dead letter. With ``ignore_result=False`` the result is a receipt, whose
        ``get()`` waits for either.
        """
        if options.get("retries"):  # a retry of a call that was validated
            result: CallResult = super().apply_async(args, kwargs, task_id=task_id, **options)
            return result
        try:
            prepared = self._prepare(args, kwargs, given_id(task_id, options))
        except Exception as error:
            if not is_refused(self._runtime, self.build, args, kwargs, error):
                hide(error)
                raise
            return DroppedResult(task_id or uuid())
        try:
            return self._dispatch(prepared, task_id, **options)
        except Exception as error:
            take_back(prepared.message_id)
            hide(error)
            raise

    if TYPE_CHECKING:  # Celery's methods, typed with the call's signature

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> str: ...  # noqa: D102
        def s(self, *args: P.args, **kwargs: P.kwargs) -> Signature: ...  # noqa: D102
        def si(self, *args: P.args, **kwargs: P.kwargs) -> Signature: ...  # noqa: D102

    def signature(self, args: Any = None, kwargs: Any = None, *more: Any, **options: Any) -> Any:
        """Return a Celery signature, in which a typed event is its name and properties."""
        args, kwargs = plain_arguments(args, kwargs)
        return super().signature(args, kwargs, *more, **options)

    def delay_on_commit(self, *args: P.args, **kwargs: P.kwargs) -> CallResult:
        """Validate the message now, and store it once Django's transaction commits.

        ``segment_before_send`` is called then: never for what is rolled back.
        """
        return self.apply_async_on_commit(args, kwargs)

    def apply_async_on_commit(
        self, args: Any = None, kwargs: Any = None, task_id: str | None = None, **options: Any
    ) -> CallResult:
        """Do the same as ``delay_on_commit``, with Celery's options."""
        from django.db import transaction

        try:
            producer, message = self._build(args, kwargs, given_id(task_id, options))
            trace, prepare = trace_context(), producer.await_commit(message)
        except Exception as error:
            if not is_refused(self._runtime, self.build, args, kwargs, error):
                raise
            return DroppedResult(task_id or uuid())

        def store() -> None:
            try:
                data = prepare()
            except Exception as error:
                if not is_refused(self._runtime, self.build, args, kwargs, error):
                    raise
                return
            prepared = Prepared(producer, message.message_id, data, trace)
            self._dispatch(prepared, task_id, **options)

        transaction.on_commit(store)
        return self.AsyncResult(task_id or message.message_id)

    def body(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Store the message and return its messageId; "" where it was not valid, and dropped.

        This is the task's function: a worker runs it, as does a direct call.
        """
        if self.request.called_directly:
            runtime = self._runtime
            try:
                return self._publish(runtime, args, kwargs, wake=bool(runtime.eager))
            except Exception as error:
                if not is_refused(runtime, self.build, args, kwargs, error):
                    raise
                return ""
        return self._run_as_task(args, kwargs)

    def _publish(self, runtime: Runtime, args: Any, kwargs: Any, *, wake: bool = False) -> str:
        try:
            source, message = self.build(*args, **kwargs)
            trace = trace_context()
            attached = Attachments(trace=trace) if trace else None
            producer = runtime.producer(source)
            try:
                producer.publish(message, attached)
            except SegmentBufferError:
                take_back(message.message_id)
                raise
        except SegmentError as error:
            hide(error)
            raise
        if wake:
            producer.wake()
        return message.message_id

    def _run_as_task(self, args: Any, kwargs: Any) -> str:
        try:
            return self._store_sent(args, kwargs)
        except ValidationError:
            raise
        except Exception as error:
            if self.request.is_eager:
                raise
            self._keep(error)

    def _store_sent(self, args: Any, kwargs: Any) -> str:
        """Store the message that a task message contains."""
        request = self.request
        sent = sent_header(request.headers)
        encoded = bool(sent.get("prepared"))
        if not encoded:
            check_arguments(self.build, args, kwargs)
        # The task's id becomes the messageId, so that a redelivered task does not get another.
        # A prepared message has been completed by its call; a visitor must not be applied again
        # if Celery is eager and a request is being served.
        with acting(Block()) if encoded else nullcontext():
            prepared = self._prepare(args, kwargs, request.id, sent)
        if prepared.data is not None:
            attached = attachments_of(
                request.id,
                prepared.message_id,
                sent["trace"].encode() if sent.get("trace") else prepared.trace,
                request.callbacks,
                request.errbacks,
                receipt=bool(sent.get("receipt")),
                trust=self._runtime.trust,
            )
            prepared.producer.store(prepared.data, attached)
        if request.is_eager:  # no worker checks the buffer by itself
            prepared.producer.wake()
        # The callbacks are stored with the message; Celery must not call them now.
        request.callbacks = request.errbacks = None
        return prepared.message_id

    def _keep(self, error: Exception) -> NoReturn:
        """Have the message stored later: the task message is its only copy.

        Another worker may know its source, or Redis have room then.
        """
        request, asked = self.request, f"{self.name}[{self.request.id}]"
        known = error if isinstance(error, SegmentError) else type(error).__name__
        logger.warning("%s is not stored yet, and is tried again: %s", asked, known)
        is_redis = isinstance(error, SegmentBufferError)
        wait = _BODY_RETRY if is_redis else min(_BODY_RETRY * 2**request.retries, _LONGEST_RETRY)
        try:
            how = {"countdown": wait, "queue": origin_queue(self), "throw": False}
            with self._runtime.sender.options() as own:
                retry = self.retry(exc=error, kwargsrepr=request.kwargsrepr, **how, **own)
            raise retry
        except Reject as refused:
            # The broker is away or full. Celery would discard the message; returned to its
            # queue, it comes again at once: hence the pause. Where the broker does not take it
            # back either, it stays unacknowledged: see KeptRequest.
            time.sleep(_PAUSE)
            raise Reject(refused.reason, requeue=True) from None

    def _prepare(
        self,
        args: Any,
        kwargs: Any,
        task_id: str | None,
        sent: Mapping[str, Any] | None = None,
    ) -> Prepared:
        """Build and encode the message.

        Args:
            args: The positional arguments of the call.
            kwargs: The keyword arguments of the call.
            task_id: The task's id, if Celery has given it one.
            sent: The header of the task message, if there is one.
        """
        producer, message = self._build(args, kwargs, task_id)
        data = encoded_before(message, sent, self._runtime.trust) if sent else None
        if data is None:
            data = producer.prepare(message)
        return Prepared(producer, message.message_id, data, trace_context())

    def _build(self, args: Any, kwargs: Any, task_id: str | None) -> tuple[Producer, Message]:
        """Build the message, with the task's id, if one is given, as its messageId."""
        args, kwargs = args or (), kwargs or {}
        if task_id is not None:
            given = inspect.signature(self.build).bind(*args, **kwargs).arguments
            if given.get("message_id") is None:
                given["message_id"] = task_id
            args, kwargs = (), given
        source, message = self.build(*args, **kwargs)
        return self._runtime.producer(source), message

    def _dispatch(
        self,
        prepared: Prepared,
        task_id: str | None,
        *,
        link: Any = None,
        link_error: Any = None,
        ignore_result: bool | None = None,
        **options: Any,
    ) -> CallResult:
        """Store a message, or send it through the broker if an option requires that."""
        producer, message_id, data, trace = prepared
        task_id = task_id or message_id
        receipt = ignore_result is False and producer.delivers
        if receipt:
            check_receipts(self.app)
        if data is None:
            return StoredResult(task_id, message_id)
        trust = self._runtime.trust
        trust.check(link, link_error, receipt=receipt)
        given = {name for name, value in options.items() if value is not None}
        # A message that will not be delivered is not sent, so no countdown or queue applies.
        needs_broker = given - _INERT if producer.delivers else given & _CANVAS
        if needs_broker or self._runtime.eager:
            header = header_of(data, trace, trust, receipt=receipt)
            options["headers"] = {**(options.get("headers") or {}), HEADER: header}
            options = holdable(self.app, {**options, "link": link, "link_error": link_error})
            result = self._send(prepared, data, task_id, options)
        else:
            asked = (task_id, message_id, trace, link, link_error)
            producer.store(data, attachments_of(*asked, receipt=receipt, trust=trust))
            result = StoredResult(task_id, message_id)
        return self._receipt(task_id) if receipt else result

    def _send(
        self, prepared: Prepared, data: bytes, task_id: str, options: dict[str, Any]
    ) -> CallResult:
        """Send a message through the broker, as the arguments of this task."""
        source = prepared.producer.source
        # Shown in Flower and in Celery's events instead of the payload.
        options.setdefault("kwargsrepr", f"{source}, message {prepared.message_id}")
        # The task stores the message, which these could only prevent.
        for name in ("serializer", "soft_time_limit", "time_limit"):
            options.pop(name, None)
        kwargs = {**call_arguments(data), "source": source}
        with self._runtime.sender.options(options) as own:
            return super().apply_async((), kwargs, task_id, **{**own, **options})  # type: ignore[no-any-return]

    def _receipt(self, task_id: str) -> CallResult:
        return CallResult(task_id, app=self.app, backend=self.backend, task_name=self.name)

    def AsyncResult(self, task_id: str, **kwargs: Any) -> SentResult:  # noqa: N802 - Celery's name
        """Return the result of a call that is frozen in a signature or sent through the broker."""
        return SentResult(task_id, app=self.app, task_name=self.name, **kwargs)
