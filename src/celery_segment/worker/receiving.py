"""Check that an application's workers can receive the messages of this library's tasks."""

from __future__ import annotations

from typing import Any

from celery.utils.quorum_queues import detect_quorum_queues
from kombu.serialization import prepare_accept_content

from celery_segment.errors import ConfigurationError

__all__ = ["check_content", "check_queues"]

_JSON = "application/json"


def check_content(app: Any) -> None:
    """Raise ConfigurationError if the workers of an application would discard JSON messages."""
    accepted = app.conf.accept_content
    if accepted is None or _JSON in prepare_accept_content(accepted):
        return
    raise ConfigurationError(
        f"accept_content = {sorted(accepted)} discards the messages of this library's tasks,"
        " which are JSON",
        hint="add 'json' to accept_content; task_serializer may stay as it is",
    )


def check_queues(app: Any) -> None:
    """Raise ConfigurationError if RabbitMQ would refuse the workers their queues.

    Such a worker does not end: it connects again and again.
    """
    if app.conf.worker_detect_quorum_queues:
        return
    driver = app.connection_for_read().transport.driver_type
    is_quorum, queue = detect_quorum_queues(app, driver)
    if is_quorum:
        raise ConfigurationError(
            f"worker_detect_quorum_queues is off, and {queue!r} is a quorum queue: RabbitMQ refuses"
            " its consumers",
            hint="remove worker_detect_quorum_queues = False",
        )
