"""A call that was validated, and what a task message says of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from celery_segment.messages import Message, encode
from celery_segment.producer import Producer
from celery_segment.trust import Trust

__all__ = ["HEADER", "Prepared", "encoded_before", "header_of", "sent_header"]

#: The header of a task message whose message has been validated and prepared by a call.
HEADER = "segment"


class Prepared(NamedTuple):
    """A validated call that is ready to be stored.

    Attributes:
        producer: The producer of the message's source.
        message_id: The message's id.
        data: The encoded message; None if ``segment_before_send`` dropped it.
        trace: The trace context of the call, or b"".
    """

    producer: Producer
    message_id: str
    data: bytes | None
    trace: bytes

    def __repr__(self) -> str:
        return f"Prepared({self.message_id!r})"


def header_of(data: bytes, trace: bytes, trust: Trust, *, receipt: bool) -> dict[str, Any]:
    """Return the header of the task message of a prepared message."""
    return {
        "prepared": True,
        "receipt": receipt,
        "trace": trace.decode(),
        "signature": trust.signature_of(data),
    }


def sent_header(headers: Any) -> dict[str, Any]:
    """Return the header that ``header_of`` made; an empty one for anything else.

    A program in another language may have set it. Were a worker to fail by it, the task would be
    tried again for ever, as it is where a message cannot be stored.
    """
    sent = headers.get(HEADER) if isinstance(headers, Mapping) else None
    if not isinstance(sent, Mapping) or not isinstance(sent.get("trace") or "", str):
        return {}
    return dict(sent)


def encoded_before(message: Message, sent: Mapping[str, Any], trust: Trust) -> bytes | None:
    """Return a message's bytes, if it came through the broker and a call has prepared it.

    Where there is a key, a message that is not signed is prepared by the worker: otherwise
    whoever may publish could pass ``segment_before_send`` by.

    Args:
        message: The message.
        sent: The header of its task message.
        trust: Verifies the header.
    """
    if not sent.get("prepared"):
        return None
    data = encode(message)
    return data if trust.is_prepared(data, sent.get("signature")) else None
