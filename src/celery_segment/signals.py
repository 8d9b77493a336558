"""Signals, used like Celery's: ``batch_delivered.connect(receiver)``.

The ``sender`` is the name of the source. A signal is sent after the event, in the process
where it happened. If a receiver raises, the exception is logged and otherwise ignored. A
signal is lost if the process dies; use a callback for what must not be missed.
"""

from __future__ import annotations

from celery.utils.dispatch import Signal

__all__ = [
    "batch_delivered",
    "batch_failed",
    "batch_retried",
    "messages_dropped",
    "plan_violated",
]

#: A worker delivered a batch.
batch_delivered = Signal(
    name="batch_delivered",
    providing_args={"batch", "messages", "bytes", "status", "seconds"},
)
#: An attempt to deliver a batch failed; the next one is in ``wait`` seconds.
batch_retried = Signal(
    name="batch_retried",
    providing_args={"batch", "messages", "bytes", "cause", "wait"},
)
#: A worker gave a batch up: it became a dead letter.
batch_failed = Signal(
    name="batch_failed",
    providing_args={"batch", "messages", "bytes", "cause"},
)
#: Messages were dropped as configured. ``reason`` is "full", "unavailable",
#: "unknown" (Redis did not say whether it stored them), "invalid" (the call was not valid),
#: "unidentified" (the visitor of a web request has no id) or "before_send".
messages_dropped = Signal(
    name="messages_dropped",
    providing_args={"reason", "messages"},
)
#: A call violates the tracking plan. ``type`` and ``name`` are the message's, its event's or
#: page's; ``rule`` is the keyword of JSON Schema, or "unplanned"; ``action`` is what becomes of the
#: message: "allow", "log" or "raise". There is no value of the message.
plan_violated = Signal(
    name="plan_violated",
    providing_args={"type", "name", "path", "rule", "problem", "action"},
)
