"""The six calls: validate, append to the buffer, wake a worker.

Each is a Celery task. ``.delay(...)`` and all that Celery makes of it come here
and go straight to Redis, in one round trip and without a task message, unless
an option asks for what only a broker can do (a countdown, a queue, a chord).
The task's body does the same, for messages that did travel through the broker.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, cast
from uuid import UUID

from celery import Signature, Task, shared_task
from celery.result import AsyncResult

from celery_segment import messages
from celery_segment.buffer import Buffer
from celery_segment.config import DEFAULT_SOURCE, settings_of
from celery_segment.doorbell import wake
from celery_segment.errors import SegmentBufferError
from celery_segment.intake import Intake, intake_of
from celery_segment.results import SentResult, StoredResult

__all__ = ["CALLS", "Call", "alias", "collect", "group", "identify", "page", "screen", "track"]

P = ParamSpec("P")
Built = tuple[str, messages.Message]
Json = Mapping[str, Any] | None
Identifier = str | int | UUID | Decimal | float | None

#: Options of apply_async that mean nothing to a message that is stored at once.
#: Any other sends the call through the broker.
_INERT = frozenset(
    (
        *("add_to_parent", "compression", "connection", "delivery_mode", "group_id"),
        *("group_index", "headers", "ignore_result", "origin", "parent_id", "priority"),
        *("reply_to", "retry", "retry_policy", "root_id", "route_name", "serializer"),
        *("soft_time_limit", "stamped_headers", "time_limit"),
    )
)
#: Seconds between attempts of a task's body to reach Redis.
_BODY_RETRY = 5.0

_collected: ContextVar[dict[str, list[bytes]] | None] = ContextVar("collected", default=None)


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
        self._ways: dict[str, Buffer | Intake | None] = {}

    def body(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Store the message and return its messageId: what a worker runs, and a direct call."""
        directly = self.request.called_directly
        # A redelivered task must not mint a second messageId.
        source, message = self._frozen(args, kwargs, None if directly else self.request.id)
        try:
            self._store(source, messages.to_bytes(message))
        except SegmentBufferError as error:
            if directly or self.request.is_eager:
                raise
            raise self.retry(exc=error, countdown=_BODY_RETRY) from None
        return message.message_id

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult:
        """Store the message; return a result whose id is its messageId."""
        if self.app.conf.task_always_eager:
            return self.apply_async(args, kwargs)
        source, message = self.build(*args, **kwargs)
        self._store(source, messages.to_bytes(message))
        return StoredResult(message.message_id, message.message_id)

    def apply_async(
        self,
        args: Any = None,
        kwargs: Any = None,
        task_id: str | None = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        shadow: str | None = None,
        **options: Any,
    ) -> AsyncResult:
        """Store the message, or send it through the broker where an option asks for that.

        Takes Celery's options. The message is validated here in either case,
        and has the id and the timestamp of this moment.
        """
        through_broker = partial(
            super().apply_async,
            producer=producer,
            link=link,
            link_error=link_error,
            shadow=shadow,
            **options,
        )
        if options.get("retries"):  # validated by the call that it repeats
            return through_broker(args, kwargs, task_id=task_id)
        source, message = self._frozen(args, kwargs, task_id)
        data = messages.to_bytes(message)
        task_id = task_id or message.message_id
        given = {name for name, value in options.items() if value is not None}
        if link or link_error or not given <= _INERT or self.app.conf.task_always_eager:
            named = {**messages.arguments(data), "source": source}
            return through_broker((), named, task_id=task_id)
        self._store(source, data)
        return StoredResult(task_id, message.message_id)

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

        source, message = self._frozen(args, kwargs, task_id)
        named = {**messages.arguments(messages.to_bytes(message)), "source": source}
        task_id = task_id or message.message_id
        transaction.on_commit(partial(self.apply_async, (), named, task_id=task_id, **options))
        return self.AsyncResult(task_id)

    def _frozen(self, args: Any, kwargs: Any, task_id: str | None) -> Built:
        """Build the message; a task id that Celery froze becomes its messageId."""
        args, kwargs = args or (), kwargs or {}
        if task_id is None:
            return self.build(*args, **kwargs)
        given = inspect.signature(self.build).bind(*args, **kwargs).arguments
        if given.get("message_id") is None:
            given["message_id"] = task_id
        return self.build(**given)

    def _store(self, source: str, data: bytes) -> None:
        try:
            way = self._ways[source]
        except (KeyError, TypeError):
            enabled = settings_of(self.app).source(source).enabled
            way = self._ways[source] = intake_of(self.app, source) if enabled else None
        if way is None:
            return
        collected = _collected.get()
        if collected is not None and source in collected:
            collected[source].append(data)
        elif way.append(data):
            wake(self.app, source)

    def AsyncResult(self, task_id: str, **kwargs: Any) -> SentResult:  # noqa: N802 - Celery's name
        """Return the result of a call that is frozen in a signature, or sent to the broker."""
        return SentResult(task_id, app=self.app, task_name=self.name, **kwargs)


@contextmanager
def collect(app: Any, source: str) -> Iterator[None]:
    """Hold a source's messages back and store them together at the end of the block."""
    outer = _collected.get() or {}
    if source in outer:  # an inner block is part of the outer one
        yield
        return
    mine: list[bytes] = []
    token = _collected.set({**outer, source: mine})
    try:
        yield
    finally:
        _collected.reset(token)
        if mine and intake_of(app, source).append_many(mine):
            wake(app, source)


def _call(build: Callable[P, Built]) -> Call[P]:
    """Register the task ``segment.<name>`` whose arguments are those of ``build``."""

    def run(self: Call[P], *args: P.args, **kwargs: P.kwargs) -> str:
        return self.body(*args, **kwargs)

    for attribute in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(run, attribute, getattr(build, attribute))
    name = f"segment.{build.__name__}"
    options = {"name": name, "base": Call, "bind": True, "typing": False}
    return cast("Call[P]", shared_task(run, build=staticmethod(build), **options))


# ---------------------------------------------------------------- the six
# The order of the arguments is that of Segment's own Python library.


@_call
def identify(
    user_id: Identifier = None,
    traits: Json = None,
    context: Json = None,
    timestamp: datetime | str | None = None,
    anonymous_id: Identifier = None,
    integrations: Json = None,
    message_id: str | None = None,
    *,
    source: str = DEFAULT_SOURCE,
) -> Built:
    """Say who a user is.

    Args:
        user_id: The user's id in your database; this or ``anonymous_id`` is required.
        traits: What you know about the user: name, email, plan, …
        context: Extra context (ip, userAgent, locale, page, campaign, …).
        timestamp: When it happened; leave it out for now. A datetime without a
            zone is local time within five seconds of now, else UTC.
        anonymous_id: An id from before you knew the user.
        integrations: Destinations to turn on or off, by name.
        message_id: At most 100 characters; Segment delivers each id once in about a day.
        source: The name of the source in ``segment_sources``.
    """
    return source, messages.make(
        messages.Identify,
        user_id=user_id,
        anonymous_id=anonymous_id,
        traits=traits,
        context=context,
        timestamp=timestamp,
        integrations=integrations,
        message_id=message_id,
    )


@_call
def track(
    user_id: Identifier = None,
    event: str | None = None,
    properties: Json = None,
    context: Json = None,
    timestamp: datetime | str | None = None,
    anonymous_id: Identifier = None,
    integrations: Json = None,
    message_id: str | None = None,
    *,
    source: str = DEFAULT_SOURCE,
) -> Built:
    """Record what a user did: ``event``, such as "Item Purchased", and its ``properties``.

    The other arguments are those of ``identify``.
    """
    return source, messages.make(
        messages.Track,
        user_id=user_id,
        anonymous_id=anonymous_id,
        event=event,
        properties=properties,
        context=context,
        timestamp=timestamp,
        integrations=integrations,
        message_id=message_id,
    )


@_call
def alias(
    previous_id: Identifier = None,
    user_id: Identifier = None,
    context: Json = None,
    timestamp: datetime | str | None = None,
    integrations: Json = None,
    message_id: str | None = None,
    *,
    source: str = DEFAULT_SOURCE,
) -> Built:
    """Say that ``previous_id`` and ``user_id``, both required, are the same user's.

    The other arguments are those of ``identify``.
    """
    return source, messages.make(
        messages.Alias,
        previous_id=previous_id,
        user_id=user_id,
        context=context,
        timestamp=timestamp,
        integrations=integrations,
        message_id=message_id,
    )


@_call
def group(
    user_id: Identifier = None,
    group_id: Identifier = None,
    traits: Json = None,
    context: Json = None,
    timestamp: datetime | str | None = None,
    anonymous_id: Identifier = None,
    integrations: Json = None,
    message_id: str | None = None,
    *,
    source: str = DEFAULT_SOURCE,
) -> Built:
    """Say that a user belongs to a group, ``group_id``, which has ``traits``.

    The other arguments are those of ``identify``.
    """
    return source, messages.make(
        messages.Group,
        user_id=user_id,
        anonymous_id=anonymous_id,
        group_id=group_id,
        traits=traits,
        context=context,
        timestamp=timestamp,
        integrations=integrations,
        message_id=message_id,
    )


@_call
def page(
    user_id: Identifier = None,
    category: str | None = None,
    name: str | None = None,
    properties: Json = None,
    context: Json = None,
    timestamp: datetime | str | None = None,
    anonymous_id: Identifier = None,
    integrations: Json = None,
    message_id: str | None = None,
    *,
    source: str = DEFAULT_SOURCE,
) -> Built:
    """Record a view of a website's page.

    ``properties`` are any, with ``url``, ``title``, ``referrer`` and ``path`` known to
    Segment. The other arguments are those of ``identify``.
    """
    return source, messages.make(
        messages.Page,
        user_id=user_id,
        anonymous_id=anonymous_id,
        category=category,
        name=name,
        properties=properties,
        context=context,
        timestamp=timestamp,
        integrations=integrations,
        message_id=message_id,
    )


@_call
def screen(
    user_id: Identifier = None,
    category: str | None = None,
    name: str | None = None,
    properties: Json = None,
    context: Json = None,
    timestamp: datetime | str | None = None,
    anonymous_id: Identifier = None,
    integrations: Json = None,
    message_id: str | None = None,
    *,
    source: str = DEFAULT_SOURCE,
) -> Built:
    """Record a view of an application's screen. The arguments are those of ``page``."""
    return source, messages.make(
        messages.Screen,
        user_id=user_id,
        anonymous_id=anonymous_id,
        category=category,
        name=name,
        properties=properties,
        context=context,
        timestamp=timestamp,
        integrations=integrations,
        message_id=message_id,
    )


CALLS: dict[str, Call[...]] = {
    "identify": identify,
    "track": track,
    "page": page,
    "screen": screen,
    "group": group,
    "alias": alias,
}
