"""What travels with a message until it is settled: callbacks, a receipt, the trace of its call."""

from __future__ import annotations

from typing import Any

from kombu.utils.json import dumps

from celery_segment.buffer import Attachments
from celery_segment.errors import ValidationError

__all__ = ["keeps_results", "kept", "traced"]


def traced(trace: bytes) -> Attachments | None:
    """Return what is kept beside a message whose call had a trace context."""
    return Attachments(trace=trace) if trace else None


def kept(
    task_id: str, message_id: str, trace: bytes, link: Any, link_error: Any, *, receipt: bool
) -> Attachments | None:
    """Return what is to be kept beside a message until it is settled."""
    if not (link or link_error or receipt):
        return traced(trace)
    try:
        packed = pack(task_id, message_id, link, link_error, receipt=receipt)
        return Attachments(packed, trace)
    except (TypeError, ValueError) as error:
        raise ValidationError(
            "link", f"an argument of a callback's signature has no JSON form ({error})"
        ) from error


def pack(task_id: str, message_id: str, link: Any, link_error: Any, *, receipt: bool) -> bytes:
    """Return the callbacks of a message as the buffer keeps them: JSON.

    Raises:
        TypeError: An argument of a signature has no JSON form.
        ValueError: Likewise.
    """
    content: dict[str, Any] = {"id": task_id, "result": message_id}
    if link:
        content["link"] = _signatures(link)
    if link_error:
        content["link_error"] = _signatures(link_error)
    if receipt:
        content["receipt"] = True
    packed: bytes = dumps(content).encode()
    return packed


def keeps_results(app: Any) -> bool:
    """Return whether an application has a result backend."""
    from celery.backends.base import DisabledBackend

    return not isinstance(app.backend, DisabledBackend)


def _signatures(given: Any) -> list[Any]:
    return list(given) if isinstance(given, list | tuple) else [given]
