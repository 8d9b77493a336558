"""A batch becomes an HTTP request. No I/O."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from datetime import datetime, timezone

from celery_segment.buffer.body import ENVELOPE, gzipped, unpacked
from celery_segment.config import Source, WriteKey
from celery_segment.version import __version__

__all__ = ["Request", "build"]

USER_AGENT = f"celery-segment/{__version__}"


@dataclass(frozen=True, slots=True)
class Request:
    """One POST to ``{host}/v1/batch``. Its ``repr`` shows neither key nor payload."""

    url: str
    headers: dict[str, str] = field(repr=False)
    data: bytes = field(repr=False)


def build(
    source: Source, write_key: WriteKey, messages: bytes | memoryview, requests: int, now: datetime
) -> Request:
    """Return the request for a batch's messages, which are posted as they lie in the buffer.

    Args:
        source: Where to, and whether compressed.
        write_key: The user of HTTP Basic, with an empty password.
        messages: JSON objects, each with a comma behind it; or these, packed.
        requests: How often this batch was posted before (``X-Retry-Count``).
        now: The time of this attempt. Segment computes an event's time as
            receivedAt - (sentAt - timestamp), so it is never the call's.
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
        body = gzipped(messages, closing)
        headers["Content-Encoding"] = "gzip"
    else:
        body = b"".join((opening, memoryview(unpacked(messages))[:-1], closing))
    if requests:
        headers["X-Retry-Count"] = str(requests)
    return Request(f"{source.host}/v1/batch", headers, body)
