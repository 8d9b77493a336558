"""Check that an application's workers accept the content type of this library's tasks."""

from __future__ import annotations

from typing import Any

from kombu.serialization import prepare_accept_content

from celery_segment.errors import ConfigurationError

__all__ = ["check_content"]

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
