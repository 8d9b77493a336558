"""What is called once a message, or a batch, is settled.

A message's ``link``, ``link_error`` and receipt are stored with it in the buffer. A batch
that is settled keeps them there until they have run: if its worker dies in between,
another one runs them. So each is called at least once, and after the fact only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from celery.app.task import Context
from celery.canvas import maybe_signature
from kombu.exceptions import OperationalError
from kombu.utils.json import loads

from celery_segment.buffer import Buffer, Settled, messages_of
from celery_segment.calls.attachments import keeps_results
from celery_segment.config.parsers import callable_or_path
from celery_segment.errors import ConfigurationError, DeliveryFailed, SegmentBufferError
from celery_segment.messages import decode

__all__ = ["SettledBatch", "hook_of", "run"]

logger = logging.getLogger("celery_segment")


@dataclass(frozen=True, slots=True)
class SettledBatch:
    """What ``segment_on_delivered`` and ``segment_on_failed`` get.

    Attributes:
        source: The source's name.
        batch: The batch's id.
        messages: The number of its messages.
        bytes: Their size, as JSON.
        cause: Why it was given up; None when it was delivered.
    """

    source: str
    batch: str
    messages: int
    bytes: int
    cause: str | None
    _body: Any = field(repr=False)

    def contents(self) -> list[dict[str, Any]]:
        """Return the messages as they were sent."""
        return [decode(data) for data in messages_of(self._body)]


def hook_of(app: Any, hook: Any) -> Callable[..., Any]:
    """Return the task or callable that ``segment_on_delivered`` or ``segment_on_failed`` means.

    Raises:
        ConfigurationError: A text names neither.
    """
    if not isinstance(hook, str):
        return hook  # type: ignore[no-any-return]
    if hook in app.tasks:
        return app.tasks[hook]  # type: ignore[no-any-return]
    try:
        return callable_or_path(hook)
    except ValueError as error:
        raise ConfigurationError(
            f"{hook!r} of segment_on_delivered or segment_on_failed is neither a registered task"
            f" nor a callable: it {error}"
        ) from None


def run(app: Any, buffer: Buffer, settled: Settled) -> None:
    """Run a settled batch's callbacks, then mark them done.

    What a callback raises is logged. While the broker is unreachable none is marked done,
    and a tick has all of them run again.
    """
    try:
        if settled.callbacks:  # otherwise the broker is not needed
            with app.producer_or_acquire() as producer:
                for callbacks in settled.callbacks:
                    _guarded(_run_message_callbacks, app, loads(callbacks), settled, producer)
        hook = buffer.source.on_delivered if settled.cause is None else buffer.source.on_failed
        if hook is not None:
            _guarded(_run_hook, app, hook, buffer.source.name, settled)
        buffer.called(settled)
    except (OperationalError, SegmentBufferError) as error:
        logger.warning(
            "%s: callbacks of batch %s will run again: %s", buffer.source.name, settled.id, error
        )


def _guarded(function: Callable[..., None], *args: Any) -> None:
    try:
        function(*args)
    except OperationalError:
        raise
    except Exception:
        logger.exception("a callback failed; the delivery stands")


def _run_message_callbacks(
    app: Any, callbacks: dict[str, Any], settled: Settled, producer: Any
) -> None:
    task_id, result = callbacks["id"], callbacks["result"]
    receipt = bool(callbacks.get("receipt")) and keeps_results(app)
    if settled.cause is None:
        if receipt:
            app.backend.mark_as_done(task_id, result)
        for each in callbacks.get("link", ()):
            signature = maybe_signature(each, app=app)
            signature.apply_async((result,), producer=producer, parent_id=task_id, root_id=task_id)
        return
    request = Context(id=task_id, errbacks=callbacks.get("link_error"), delivery_info={})
    error = DeliveryFailed(settled.cause)
    app.backend.mark_as_failure(task_id, error, request=request, store_result=receipt)


def _run_hook(app: Any, hook: Any, source: str, settled: Settled) -> None:
    hook = hook_of(app, hook)
    batch = SettledBatch(
        source, settled.id, settled.count, settled.size, settled.cause, settled.body
    )
    if hasattr(hook, "apply_async"):
        names = ("source", "batch", "messages", "bytes", "cause")
        hook.apply_async(kwargs={name: getattr(batch, name) for name in names})
    else:
        hook(batch)
