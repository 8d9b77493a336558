"""A validated message goes into its source's buffer: defaults, hook, bytes, append."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Protocol

from celery.signals import worker_process_shutdown

from celery_segment.buffer import NO_ATTACHMENTS, Attachments, AttachmentsByPlace, Violations
from celery_segment.config import Source
from celery_segment.errors import SegmentBufferError
from celery_segment.frames import hidden_locals
from celery_segment.messages import (
    Message,
    add_defaults,
    decode,
    encode,
    from_wire,
    run_hook,
)
from celery_segment.producer.drops import Drops
from celery_segment.producer.held import HeldCalls, current_hold, held_by
from celery_segment.producer.plans import (
    PlanDecision,
    PlanStep,
    Quarantine,
    hold_to,
    kind_of,
    reasons_of,
)
from celery_segment.producer.store import Store
from celery_segment.producer.violation_events import ViolationEvents
from celery_segment.producer.violations import PendingViolations
from celery_segment.signals import messages_dropped

__all__ = ["Discard", "Producer"]


class SupportsBool(Protocol):
    """What is true or false at the moment it is asked."""

    def __bool__(self) -> bool:
        """Return which."""


class Discard:
    """The store of a source that is not enabled: it stores nothing."""

    def append(self, _message: bytes) -> None:
        """Store nothing."""

    def append_many(
        self, _messages: Sequence[bytes], _attachments: AttachmentsByPlace = NO_ATTACHMENTS
    ) -> None:
        """Store nothing."""

    def quarantine(self, _message: bytes, _cause: str, _reason: str) -> None:
        """Store nothing."""

    def count_dropped(self, _reason: str, _count: int) -> None:
        """Count nothing."""

    def count_violations(self, _found: Sequence[Violations]) -> None:
        """Count nothing."""


class Producer:
    """Publishes the messages of one source.

    Its methods raise ``ValidationError`` where a message is refused and, unless the
    settings say otherwise, ``BufferUnavailable`` or ``BufferFull``.

    Args:
        source: The source.
        store: Where its messages go.
        wake: Drains the source where ``eager`` is true; workers notice by themselves what waits.
        eager: True where the application runs its tasks at once, and so has no worker.
        delivers: Whether what is stored reaches the workers.
        on_loop: Returns the source's producer for the running event loop; this one where storing
            does not wait for anything.
        held_as: The source's producer for callers that may block: one block holds back what
            both are given.
        plan: Holds the messages to the source's tracking plan, if it has one.
    """

    def __init__(
        self,
        source: Source,
        store: Store,
        wake: Callable[[], None],
        eager: SupportsBool,
        *,
        delivers: bool = True,
        on_loop: Callable[[], Producer] | None = None,
        held_as: Producer | None = None,
        plan: PlanStep | None = None,
    ) -> None:
        self.source = source.name
        self.delivers = delivers
        self.wake = wake
        self._settings = source
        self._store = store
        self._eager = eager
        self.on_loop = on_loop or (lambda: self)
        self._held_as = held_as or self
        self._drops = Drops()
        self._plan = plan
        self.violations: PendingViolations = (
            self._held_as.violations if held_as else PendingViolations()
        )
        reports = source.report_violations and delivers and plan is not None
        self._violation_events = ViolationEvents(source.name) if reports else None
        self._is_plain = not (
            source.context or source.integrations or source.before_send or plan is not None
        )

    def publish(self, message: Message, attachments: Attachments | None = None) -> None:
        """Store a message with what is attached to it."""
        data = encode(message) if self._is_plain else self.prepare(message)
        if data is None:
            return
        if attachments is not None or current_hold() is not None:
            self.store(data, attachments)
        else:
            self._store.append(data)  # what most calls are, without a detour

    def prepare(self, message: Message, quarantine: Quarantine | None = None) -> bytes | None:
        """Return a message's bytes, with the source's defaults.

        ``publish`` does this by itself. It is for messages that travel through the broker
        before they are stored.

        Args:
            message: The message.
            quarantine: Gets what is to be quarantined; by default, that is stored now.

        Returns:
            The bytes; None when the source's hook drops it, or it is quarantined.
        """
        s = self._settings
        add_defaults(message, s.context, s.integrations)
        changed: Message | None = message
        if s.before_send is not None:
            changed = run_hook(message, s.before_send)
        if changed is None:
            messages_dropped.send(sender=s.name, reason="before_send", messages=1)
            return None
        data = encode(changed)
        if self._plan is None:
            return data
        quarantine = quarantine or self.quarantine
        try:
            return hold_to(self._plan, s.name, changed, data, quarantine, self._note)
        finally:
            if self.violations:
                self._report_violations()

    def _note(self, message: Message, decision: PlanDecision) -> None:
        """Count a violation, and tell Segment of it where the source is to."""
        self.violations.add(kind_of(message, decision))
        if self._violation_events is not None:
            for event in self._violation_events.of(message, decision):
                # A call does not fail for what tells of it.
                with suppress(SegmentBufferError):
                    self._store.append(event)

    def _report_violations(self) -> None:
        pending = self.violations
        if pending.is_due:
            self.report_violations()
        elif not pending.is_reported_at_exit:
            pending.is_reported_at_exit = True
            # Not on an event loop, which has ended by then.
            _report_at_end(weakref.ref(self._held_as))

    def report_violations(self) -> None:
        """Count in Redis what violated the tracking plan and is not counted yet."""
        if self.violations:
            self.violations.report(self._store.count_violations)

    def quarantine(self, data: bytes, decision: PlanDecision) -> None:
        """Store a message that violates its plan as a dead letter."""
        self._store.quarantine(data, *reasons_of(decision))

    def await_commit(self, message: Message) -> Callable[[], bytes | None]:
        """Fix the content of a message that is stored once a transaction commits.

        Returns:
            What does the same as ``prepare``, at the commit: the hook is not called for what is
            rolled back.
        """
        if self._settings.before_send is None:
            kept: list[tuple[bytes, PlanDecision]] = []
            data = self.prepare(message, lambda *each: kept.append(each))

            def at_commit() -> bytes | None:
                for each in kept:
                    self.quarantine(*each)
                return data

            return at_commit
        fixed = encode(message)
        return lambda: self.prepare(from_wire(decode(fixed)))

    def drop(self, reason: str) -> None:
        """Drop a call's message, and count it: in Redis, now or with the next one dropped."""
        self._drops.add(reason, 1)
        self._drops.report(self._store.count_dropped)
        messages_dropped.send(sender=self.source, reason=reason, messages=1)

    def store(self, data: bytes, attachments: Attachments | None = None) -> None:
        """Store a prepared message with what is attached to it."""
        hold = current_hold()
        if hold is not None and hold.add(self._held_as, data, attachments):
            return
        if attachments is None:
            self._store.append(data)
        else:
            self._store.append_many([data], {0: attachments})

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Hold back the messages of a block's calls, and store them together at its end."""
        hold = HeldCalls(self)
        try:
            with held_by(hold):
                yield
        finally:
            with hidden_locals():
                for producer, held in hold.end().items():
                    producer.store_many(held.messages, held.attachments)

    @asynccontextmanager
    async def abatch(self) -> AsyncIterator[None]:
        """Do as ``batch``, without blocking the event loop at its end."""
        from celery_segment.aio.bridge import run

        hold = HeldCalls(self._held_as)
        try:
            with held_by(hold):
                yield
        finally:
            with hidden_locals():
                for producer, held in hold.end().items():
                    await run(producer.on_loop().store_many, held.messages, held.attachments)

    def store_many(
        self, data: Sequence[bytes], attachments: AttachmentsByPlace = NO_ATTACHMENTS
    ) -> None:
        """Store prepared messages in their order, many to a round trip."""
        self._store.append_many(data, attachments)
        if self._eager:
            self.wake()


def _report_at_end(producer: weakref.ref[Producer]) -> None:
    """Have a process report what it has not reported yet when it ends."""

    def report(**_: Any) -> None:
        found = producer()
        if found is not None:
            found.report_violations()

    atexit.register(report)
    # A process of a worker's pool runs nothing of ``atexit``.
    worker_process_shutdown.connect(report, weak=False)
