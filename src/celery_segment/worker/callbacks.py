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
from kombu.utils.json import dumps, loads

from celery_segment.buffer import Buffer, Settled, messages_of
from celery_segment.calls.attachments import keeps_results
from celery_segment.config import Source
from celery_segment.config.parsers import callable_or_path
from celery_segment.errors import ConfigurationError, DeliveryFailed, SegmentBufferError
from celery_segment.frames import hidden_locals
from celery_segment.messages import decode
from celery_segment.runtime import runtime_of
from celery_segment.text import counted, one_line

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


@hidden_locals()
def run(app: Any, buffer: Buffer, settled: Settled) -> None:
    """Run a settled batch's callbacks, and forget those that ran.

    Each is tried by itself, and what it raises is logged. Those that find the broker or the
    result backend away are kept, and a tick has them run again.
    """
    source = buffer.source
    runner = _Runner(app, settled)
    left = [each for own in settled.callbacks if (each := runner.run(own)) is not None]
    if runner.refused:
        _report_refused(buffer, settled, runner)
    hook = source.on_delivered if settled.cause is None else source.on_failed
    hook_is_left = not (
        hook is None
        or settled.reported
        or runner.tries("broker", _run_hook, app, hook, source, settled)
    )
    if left or hook_is_left:
        logger.warning("%s: callbacks of batch %s will run again", source.shard_name, settled.id)
    try:
        buffer.called(settled, left, hook_is_left=hook_is_left)
    except SegmentBufferError as error:
        logger.warning(
            "%s: callbacks of batch %s will run again: %s",
            source.shard_name,
            settled.id,
            error,
        )


def _report_refused(buffer: Buffer, settled: Settled, runner: _Runner) -> None:
    names = ", ".join(sorted(one_line(name)[:100] for name in runner.refused_tasks))
    logger.error(
        "%s: %s of batch %s not run: not signed with segment_signing_key, and not in"
        " segment_allowed_callbacks (%s)",
        buffer.source.shard_name,
        counted(runner.refused, "callback"),
        settled.id,
        names or "receipts",
    )
    try:
        buffer.count_refused(runner.refused)
    except SegmentBufferError as error:
        logger.warning("%s: refused callbacks are not counted: %s", buffer.source.shard_name, error)


class _Runner:
    """Runs the callbacks of a settled batch's messages.

    Args:
        app: The Celery application.
        settled: The batch.
    """

    def __init__(self, app: Any, settled: Settled) -> None:
        self._app = app
        self._settled = settled
        self._away: set[str] = set()
        self._keeps_results = keeps_results(app)
        self._trust = runtime_of(app).trust
        #: How many callbacks may not run, and which tasks they are to run.
        self.refused = 0
        self.refused_tasks: set[str] = set()

    def run(self, stored: bytes) -> bytes | None:
        """Run a message's callbacks; return those to run again, or None."""
        try:
            content, is_trusted = self._trust.open(stored)
            own = loads(content)
            task_id, result = own["id"], own["result"]
            receipt = bool(own.get("receipt")) and self._keeps_results
            name = "link" if self._settled.cause is None else "link_error"
            signatures = list(own.get(name, ()))
            if not is_trusted:
                signatures = self._allowed(signatures)
                receipt = self._refuse(receipt)
        except Exception:  # noqa: BLE001 - it may be anything, and holds people's data
            logger.error("a message's callbacks cannot be decoded, and are dropped")  # noqa: TRY400
            return None
        if receipt:
            receipt = not self.tries("backend", self._store, task_id, result)
        call = self._link if name == "link" else self._link_error
        signatures = [
            each for each in signatures if not self.tries("broker", call, each, task_id, result)
        ]
        if not (receipt or signatures):
            return None
        left = {"id": task_id, "result": result, name: signatures, "receipt": receipt}
        return self._trust.seal(bytes(dumps(left), "utf-8"))

    def _allowed(self, signatures: list[Any]) -> list[Any]:
        """Return the signatures whose tasks may run unsigned; note the others."""
        allowed = []
        for each in signatures:
            refused = set(self._trust.refused_in(each))
            if not refused and isinstance(each, dict) and "task" in each:
                allowed.append(each)
                continue
            self.refused += 1
            self.refused_tasks |= refused
        return allowed

    def _refuse(self, receipt: bool) -> bool:
        """Refuse an unsigned receipt, which could overwrite any task's result."""
        self.refused += receipt
        return False

    def tries(self, needed: str, function: Callable[..., None], *args: Any) -> bool:
        """Run a callback; return False if it is to run again, since what it needs is away.

        Args:
            needed: "broker" or "backend". Once away, it is not asked again for this batch.
            function: The callback.
            args: Its arguments.
        """
        if needed in self._away:
            return False
        try:
            function(*args)
        except OperationalError as error:
            self._is_away(needed, error)
            return False
        except Exception as error:
            # What a backend raises while it is away depends on its kind.
            if needed == "backend":
                self._is_away(needed, error)
                return False
            logger.exception("a callback failed; the delivery stands")
        return True

    def _is_away(self, needed: str, error: Exception) -> None:
        self._away.add(needed)
        logger.warning("the %s is away: %s", needed, type(error).__name__)

    def _store(self, task_id: str, result: str) -> None:
        backend, cause = self._app.backend, self._settled.cause
        if cause is None:
            backend.mark_as_done(task_id, result)
        else:
            backend.mark_as_failure(task_id, DeliveryFailed(cause), request=Context(id=task_id))

    def _link(self, stored: Any, task_id: str, result: str) -> None:
        signature = maybe_signature(stored, app=self._app)
        with runtime_of(self._app).waker.options() as options:
            # A chord would have its body published with the others, too.
            own = {"producer": options["producer"]} if options else {}
            signature.apply_async((result,), parent_id=task_id, root_id=task_id, **own)

    def _link_error(self, stored: Any, task_id: str, _: str) -> None:
        request = Context(id=task_id, errbacks=[stored], delivery_info={})
        error = DeliveryFailed(str(self._settled.cause))
        self._app.backend.mark_as_failure(task_id, error, request=request, store_result=False)


def _run_hook(app: Any, hook: Any, source: Source, settled: Settled) -> None:
    hook = hook_of(app, hook)
    about = (source.name, source.batch_name(settled.id), settled.count, settled.size)
    batch = SettledBatch(*about, settled.cause, settled.body)
    if hasattr(hook, "apply_async"):
        names = ("source", "batch", "messages", "bytes", "cause")
        with runtime_of(app).waker.options() as options:
            hook.apply_async(kwargs={name: getattr(batch, name) for name in names}, **options)
    else:
        hook(batch)
