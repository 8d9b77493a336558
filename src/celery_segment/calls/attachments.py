"""Build what is stored with a message until it is settled: callbacks, receipt, trace context."""

from __future__ import annotations

from typing import Any

from kombu.utils.json import dumps

from celery_segment.buffer import Attachments
from celery_segment.errors import ConfigurationError, ValidationError
from celery_segment.trust import Trust

__all__ = ["attachments_of", "check_receipts", "keeps_results"]


def attachments_of(
    task_id: str,
    message_id: str,
    trace: bytes,
    link: Any,
    link_error: Any,
    *,
    receipt: bool,
    trust: Trust,
) -> Attachments | None:
    """Return the attachments to store with a message, or None if there are none.

    Args:
        task_id: The id of the call's result.
        message_id: The message's id, which is passed to the callbacks.
        trace: The trace context of the call, or b"".
        link: A signature, or several, to call once the message is delivered.
        link_error: A signature, or several, to call once the message is a dead letter.
        receipt: Whether to store the outcome in the result backend.
        trust: Signs them.

    Raises:
        ValidationError: A signature has no JSON form.
    """
    if not (link or link_error or receipt):
        return Attachments(trace=trace) if trace else None
    content: dict[str, Any] = {"id": task_id, "result": message_id}
    if link:
        content["link"] = _signatures(link)
    if link_error:
        content["link_error"] = _signatures(link_error)
    if receipt:
        content["receipt"] = True
    try:
        return Attachments(trust.seal(dumps(content).encode()), trace)
    except Exception as error:  # an argument's own methods may raise anything
        raise ValidationError(
            "link",
            f"an argument of a callback's signature has no JSON form ({type(error).__name__}):"
            " convert it",
        ) from error


def check_receipts(app: Any) -> None:
    """Raise ConfigurationError where an application has no result backend for a receipt."""
    if not keeps_results(app):
        raise ConfigurationError(
            "ignore_result=False requests a receipt, which needs a result backend",
            hint="set result_backend in this process and in the workers",
        )


def keeps_results(app: Any) -> bool:
    """Return whether an application has a result backend."""
    from celery.backends.base import DisabledBackend

    return not isinstance(app.backend, DisabledBackend)


def _signatures(given: Any) -> list[Any]:
    return list(given) if isinstance(given, list | tuple) else [given]
