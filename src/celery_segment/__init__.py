"""Segment analytics delivered by Celery: durable, batched, and cheap to call."""

from __future__ import annotations

from celery import _state
from celery.signals import before_task_publish

import celery_segment.worker.tasks  # noqa: F401 - registers the workers' two tasks
from celery_segment import signals
from celery_segment.buffer import Amount, DeadGroup, DeadLetter, Gate, Latency, Snapshot
from celery_segment.calls.api import alias, group, identify, page, screen, track
from celery_segment.calls.block import context
from celery_segment.calls.publishing import carry_visitor
from celery_segment.config import mask_settings
from celery_segment.errors import (
    BufferFull,
    BufferUnavailable,
    ConfigurationError,
    DeliveryFailed,
    ImportRefused,
    ImportUnfinished,
    MessageTooLarge,
    NoIdentity,
    SegmentBufferError,
    SegmentError,
    ValidationError,
    WriteKeyMissing,
)
from celery_segment.operations.dead_letters import DeadLetters, Exported
from celery_segment.operations.dead_pages import DeadLetterPage
from celery_segment.operations.forget import Forgotten
from celery_segment.operations.source import Analytics
from celery_segment.version import __version__
from celery_segment.worker.callbacks import SettledBatch

__all__ = [
    "Amount",
    "Analytics",
    "BufferFull",
    "BufferUnavailable",
    "ConfigurationError",
    "DeadGroup",
    "DeadLetter",
    "DeadLetterPage",
    "DeadLetters",
    "DeliveryFailed",
    "Exported",
    "Forgotten",
    "Gate",
    "ImportRefused",
    "ImportUnfinished",
    "Latency",
    "MessageTooLarge",
    "NoIdentity",
    "SegmentBufferError",
    "SegmentError",
    "SettledBatch",
    "Snapshot",
    "ValidationError",
    "WriteKeyMissing",
    "__version__",
    "alias",
    "context",
    "group",
    "identify",
    "page",
    "screen",
    "signals",
    "track",
]


def _install(app: object) -> None:
    # By name: a web process never imports the worker's part.
    app.steps["worker"].add("celery_segment.worker.bootsteps:Check")  # type: ignore[attr-defined]
    app.steps["consumer"].add("celery_segment.worker.bootsteps:Tick")  # type: ignore[attr-defined]


mask_settings()
before_task_publish.connect(carry_visitor)
_state.connect_on_app_finalize(_install)
for _app in _state._get_active_apps():  # noqa: SLF001 - as celery.shared_task itself does
    if _app.finalized:
        _install(_app)
