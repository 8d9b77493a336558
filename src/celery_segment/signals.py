"""Signals, as Celery's own: ``batch_delivered.connect(receiver)``.

Each has the source's name as its ``sender``. They are sent in the process where it
happens, after it happened; a receiver that raises is logged, and changes nothing. What
must not be missed, whatever process dies, belongs into a callback instead.
"""

from __future__ import annotations

from celery.utils.dispatch import Signal

__all__ = ["batch_delivered", "batch_failed", "batch_retried", "messages_dropped"]

#: A worker delivered a batch.
batch_delivered = Signal(
    name="batch_delivered",
    providing_args={"batch", "messages", "bytes", "status", "seconds"},
)
#: An attempt at a batch failed; the next is in ``wait`` seconds.
batch_retried = Signal(
    name="batch_retried",
    providing_args={"batch", "messages", "bytes", "cause", "wait"},
)
#: A worker gave a batch up: it is a dead letter.
batch_failed = Signal(
    name="batch_failed",
    providing_args={"batch", "messages", "bytes", "cause"},
)
#: Calls were dropped, as configured: ``reason`` is "full", "unavailable" or "before_send".
messages_dropped = Signal(
    name="messages_dropped",
    providing_args={"reason", "messages"},
)
