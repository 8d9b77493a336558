"""Build the HTTP request of a batch. No I/O."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from datetime import datetime, timezone

from celery_segment.buffer import ENVELOPE, decompressed, gzip_body
from celery_segment.config import Source, WriteKey
from celery_segment.version import __version__

__all__ = ["Request", "build"]

USER_AGENT = f"celery-segment/{__version__}"


@dataclass(frozen=True, slots=True)
class Request:
    """A POST request to ``{host}/v1/batch``. Its ``repr`` hides the write key and the body."""

    url: str
    headers: dict[str, str] = field(repr=False)
    data: bytes = field(repr=False)


def build(
    source: Source, write_key: WriteKey, messages: bytes | memoryview, requests: int, now: datetime
) -> Request:
    """Build the request of a batch. The messages are sent as they are stored, byte for byte.

    Args:
        source: The source, for its host and whether to compress the body.
        write_key: The user name of HTTP Basic authentication; the password is empty.
        messages: The messages as JSON objects, each followed by a comma, or these compressed.
        requests: The number of earlier requests with this batch (``X-Retry-Count``).
        now: The time of this attempt, sent as ``sentAt``. It must not be the time of the
            call: Segment computes an event's time as receivedAt - (sentAt - timestamp).
    """
    sent_at = now.astimezone(timezone.utc).isoformat(timespec="milliseconds")[:23].encode()
    opening, closing = ENVELOPE
    closing = closing.replace(b"YYYY-MM-DDTHH:MM:SS.mmm", sent_at)
    headers = {
        "Authorization": "Basic " + base64.b64encode(f"{write_key.reveal()}:".encode()).decode(),
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
    }
    if source.gzip:
        body = gzip_body(messages, closing)
        headers["Content-Encoding"] = "gzip"
    else:
        body = b"".join((opening, memoryview(decompressed(messages))[:-1], closing))
    if requests:
        headers["X-Retry-Count"] = str(requests)
    return Request(f"{source.host}/v1/batch", headers, body)
