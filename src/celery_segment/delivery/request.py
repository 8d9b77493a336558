"""Build the HTTP request of a batch. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone

from celery_segment.buffer import ENVELOPE, decompressed, gzip_body
from celery_segment.config import Source
from celery_segment.delivery.authorization import Authorization
from celery_segment.version import __version__

__all__ = ["BATCH", "USER_AGENT", "Request", "build"]

#: The path of the batch endpoint.
BATCH = "/v1/batch"

USER_AGENT = f"celery-segment/{__version__}"


@dataclass(frozen=True, slots=True)
class Request:
    """A POST request. Its ``repr`` hides what authorizes it, and the body.

    Attributes:
        server: The base URL.
        path: The path below it.
        headers: The headers.
        data: The body; None for a GET request.
        secrets: The texts that an answer must not quote.
    """

    server: str
    path: str
    headers: dict[str, str] = field(repr=False)
    data: bytes | None = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def url(self) -> str:
        """The whole URL."""
        return self.server + self.path


def build(
    source: Source,
    authorization: Authorization,
    messages: bytes | memoryview,
    requests: int,
    now: datetime,
) -> Request:
    """Build the request of a batch. The messages are sent as they are stored, byte for byte.

    Args:
        source: The source, for its host and whether to compress the body.
        authorization: What authorizes the request.
        messages: The messages as JSON objects, each followed by a comma, or these compressed.
        requests: The number of earlier requests with this batch (``X-Retry-Count``).
        now: The time of this attempt, sent as ``sentAt``. It must not be the time of the
            call: Segment computes an event's time as receivedAt - (sentAt - timestamp).
    """
    sent_at = now.astimezone(timezone.utc).isoformat(timespec="milliseconds")[:23].encode()
    opening, closing = ENVELOPE
    closing = closing.replace(b"YYYY-MM-DDTHH:MM:SS.mmm", sent_at)
    closing = closing[:-1] + authorization.members + closing[-1:]
    headers = {
        "Authorization": authorization.header,
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
    return Request(source.host, BATCH, headers, body, authorization.secrets)
