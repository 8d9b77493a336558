"""Context managers for a web request: its visitor, and the messages held back in it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from celery_segment.contrib.web import WebVisitor, web_settings
from celery_segment.errors import BufferFull, SegmentBufferError
from celery_segment.frames import hidden_locals
from celery_segment.producer import HeldCalls, Producer, held_by
from celery_segment.producer.held import Held, HeldMessages
from celery_segment.signals import messages_dropped
from celery_segment.visitor import acting

__all__ = ["aserving", "serving"]

logger = logging.getLogger("celery_segment")


@contextmanager
def serving(visitor: WebVisitor) -> Iterator[None]:
    """Attribute a block's calls to a visitor; store the messages held back at its end."""
    with _entered(visitor) as end:
        try:
            yield
        finally:
            _store(end())


@asynccontextmanager
async def aserving(visitor: WebVisitor) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Do as ``serving``, without blocking the event loop.

    Yields:
        A function that stores what is held back earlier.
    """
    # Loaded by ASGI applications alone.
    from celery_segment.aio.loop import finish

    with _entered(visitor) as end:

        async def store() -> None:
            if held := end():
                # A client that disconnects cancels this task, but storing must not be cancelled.
                await finish(_store_on_loop, held)

        try:
            yield store
        finally:
            await store()


@contextmanager
def _entered(visitor: WebVisitor) -> Iterator[Callable[[], Held]]:
    """Enter a request; yield a function that stops holding back and returns what was held."""
    with acting(visitor):
        if web_settings().batch_requests:
            hold = HeldCalls()
            with held_by(hold):
                yield hold.end
        else:
            yield dict  # nothing is held


def _store(held: Held) -> None:
    for producer, of_producer in held.items():
        _store_or_log(producer, of_producer)


def _store_on_loop(held: Held) -> None:
    for producer, of_producer in held.items():
        _store_or_log(producer.on_loop(), of_producer)


@hidden_locals()
def _store_or_log(producer: Producer, held: HeldMessages) -> None:
    """Store a request's messages; log an error, since the response is made and must not fail."""
    try:
        producer.store_many(held.messages, held.attachments)
    except SegmentBufferError as error:
        lost = len(held.messages) - error.stored
        text = "%s: messages of a request that are lost: %d (%s)"
        logger.error(text, producer.source, lost, error)  # noqa: TRY400 - a traceback adds nothing
        reason = "full" if isinstance(error, BufferFull) else "unavailable"
        messages_dropped.send(sender=producer.source, reason=reason, messages=lost)
