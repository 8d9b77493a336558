"""A validated message's way into its source's buffer: defaults, hook, bytes, append, wake."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary, ref

from celery_segment import messages
from celery_segment.buffer import NOTHING, Attachments, AttachmentsByPlace, Buffer
from celery_segment.config import settings_of
from celery_segment.messages import Message
from celery_segment.producer.fallback import Fallback, way_into
from celery_segment.producer.wake import wake
from celery_segment.signals import messages_dropped

__all__ = ["Batch", "Held", "Producer", "collect", "divert", "holding", "producer_of"]

#: Gets a source's name and a message's bytes.
Taker = Callable[[str, bytes], None]
_taker: Taker | None = None


@contextmanager
def divert(taker: Taker) -> Iterator[None]:
    """Hand all messages of this process to a test: none reaches Redis, or the broker."""
    global _taker  # noqa: PLW0603 - the process', as any of its threads may call
    outer, _taker = _taker, taker
    try:
        yield
    finally:
        _taker = outer


class Producer:
    """The way of one source's messages.

    Attributes:
        source: The source's name.

    Its methods raise ``ValidationError`` where a message is refused and, where the
    settings do not say otherwise, ``BufferUnavailable`` or ``BufferFull``.
    """

    def __init__(self, app: Any, source: str) -> None:
        self._app = ref(app)
        self._source = s = settings_of(app).source(source)
        self.source = s.name
        self._plain = not (s.context or s.integrations or s.before_send)

    @property
    def enabled(self) -> bool:
        """Whether messages reach the workers; else they are validated alone."""
        return self._source.enabled and _taker is None

    @cached_property
    def _way(self) -> Buffer | Fallback | None:
        return way_into(self._app(), self.source) if self._source.enabled else None

    def prepare(self, message: Message) -> bytes | None:
        """Return a message's bytes, with the source's defaults; None when its hook drops it."""
        if self._plain:
            return messages.encode(message)
        s = self._source
        messages.add_defaults(message, s.context, s.integrations)
        if s.before_send is None:
            return messages.encode(message)
        changed = messages.run_hook(message, s.before_send)
        if changed is None:
            messages_dropped.send(sender=s.name, reason="before_send", messages=1)
            return None
        return messages.encode(changed)

    def store(self, data: bytes, attachments: Attachments | None = None) -> None:
        """Store a message, and what is to lie beside it; wake a worker if need be."""
        if _taker is not None:
            _taker(self.source, data)
            return
        if self._way is None:
            return
        batch = _batch.get()
        if batch is not None and batch.hold(self, data, attachments):
            return
        if (
            self._way.append_many([data], {0: attachments})
            if attachments
            else self._way.append(data)
        ):
            self.wake()

    def store_many(self, data: Sequence[bytes], attachments: AttachmentsByPlace = NOTHING) -> None:
        """Store messages in their order, many to a round trip, as ``Buffer.append_many``."""
        if _taker is not None:
            for each in data:
                _taker(self.source, each)
            return
        if self._way is None:
            return
        app: Any = self._app()
        # Where Celery is eager, no worker will ever look.
        if self._way.append_many(data, attachments) or app.conf.task_always_eager:
            self.wake()

    def wake(self) -> None:
        """Have the workers drain the source."""
        if self.enabled:
            wake(self._app(), self.source)


#: What a batch holds back, by its way: messages, and what lies beside them by place.
Held = dict[Producer, tuple[list[bytes], dict[int, Attachments]]]


class Batch:
    """Messages that are held back to be stored together: of one source, or of each.

    It may be ended by any thread. A message that comes later, of a thread or task that
    outlives the batch, is not held.
    """

    def __init__(self, only: Producer | None = None) -> None:
        self._only = only
        self._outer = _batch.get()
        self._lock = Lock()
        self._held: Held | None = {}

    def hold(self, producer: Producer, data: bytes, attachments: Attachments | None) -> bool:
        """Hold a message back, and return True, if it is this batch's or an outer one's."""
        if self._outer is not None and self._outer.hold(producer, data, attachments):
            return True
        with self._lock:
            if self._held is None or self._only not in (None, producer):
                return False
            held, theirs = self._held.setdefault(producer, ([], {}))
            if attachments:
                theirs[len(held)] = attachments
            held.append(data)
            return True

    def end(self) -> Held:
        """Hold nothing any more, and return what was held."""
        with self._lock:
            held, self._held = self._held, None
        return held or {}


_batch: ContextVar[Batch | None] = ContextVar("batch", default=None)


@contextmanager
def holding(batch: Batch) -> Iterator[None]:
    """Let a batch hold the messages of a block's calls."""
    token = _batch.set(batch)
    try:
        yield
    finally:
        _batch.reset(token)


@contextmanager
def collect(app: Any, source: str) -> Iterator[None]:
    """Hold a source's messages back and store them together at the end of the block."""
    batch = Batch(producer_of(app, source))
    try:
        with holding(batch):
            yield
    finally:
        for producer, (data, attachments) in batch.end().items():
            producer.store_many(data, attachments)


_BY_APP: WeakKeyDictionary[Any, dict[str, Producer]] = WeakKeyDictionary()


def producer_of(app: Any, source: str) -> Producer:
    """Return the way into a source's buffer.

    Raises:
        ConfigurationError: The settings are wrong, there is no such source, or it
            needs a Redis and none is configured.
    """
    producers = _BY_APP.setdefault(app, {})
    if source not in producers:
        producer = Producer(app, source)
        if producer.enabled:
            way_into(app, source)  # before anything is prepared
        producers[source] = producer
    return producers[source]
