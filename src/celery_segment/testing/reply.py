"""The replies of a ``SegmentServer``."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Literal

from celery_segment.text import http_phrase

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Reply"]

# Segment's libraries respect Retry-After with these statuses and with most 5xx, up to 300 s.
_RETRYABLE = frozenset({408, 410, 429, 460})
_PERMANENT = frozenset({501, 505})
_LONGEST_RETRY_AFTER = 300.0


@dataclass(frozen=True)
class Reply:
    """The server's reply to a request.

    Create one with the class methods. A reply that accepts a batch only does so if the batch
    is within Segment's limits; otherwise it refuses the batch, with the same ``manner``.

    Attributes:
        name: The name of the class method, as in ``Received.reply``.
        manner: ``answer``; ``drip`` (the head of the response, one byte at a time);
            ``garbage``; ``close`` or ``reset`` (no response).
        code: The status of the response.
        accepts: Whether the messages count as received.
        headers: Further headers of the response.
        body: The body of the response.
        delay: Seconds to wait before the response, or before closing.
        byte_delay: Seconds between the bytes of a ``drip``.
    """

    name: str
    manner: Literal["answer", "drip", "garbage", "close", "reset"] = "answer"
    code: int = 200
    accepts: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b'{"success":true}'
    delay: float = 0.0
    byte_delay: float = 0.0

    @classmethod
    def ok(cls) -> Reply:
        """Accept the batch, and answer 200."""
        return cls("ok", accepts=True)

    @classmethod
    def status(
        cls,
        code: int,
        *,
        headers: Mapping[str, str] | None = None,
        body: str | bytes | Mapping[str, object] | None = None,
        retry_after: int | str | None = None,
    ) -> Reply:
        """Answer with a status. A 2xx status accepts the batch.

        Args:
            code: The status.
            headers: Further headers of the response.
            body: The body of the response; a mapping is sent as JSON.
            retry_after: The Retry-After header, in seconds, or any text, sent unchanged.
        """
        pairs = dict(headers or {})
        if retry_after is not None:
            pairs["Retry-After"] = str(retry_after)
        accepts = 200 <= code < 300  # noqa: PLR2004 - the class of HTTP statuses
        return cls(
            "status",
            code=code,
            accepts=accepts,
            headers=tuple(pairs.items()),
            body=_encode_body(code, accepts, body),
        )

    @classmethod
    def redirect(cls, location: str, code: int = 302) -> Reply:
        """Answer with a redirect, to which a client must not send its write key."""
        return cls(
            "redirect",
            code=code,
            headers=(("Location", location),),
            body=_encode_body(code, False, None),
        )

    @classmethod
    def close(cls) -> Reply:
        """Close the connection without a response. The batch is not accepted."""
        return cls("close", "close")

    @classmethod
    def reset(cls) -> Reply:
        """Reset the connection (TCP RST) without a response. The batch is not accepted."""
        return cls("reset", "reset")

    @classmethod
    def accept_then_close(cls) -> Reply:
        """Accept the batch, but close the connection without a response."""
        return cls("accept_then_close", "close", accepts=True)

    @classmethod
    def slow(cls, seconds: float) -> Reply:
        """Accept the batch immediately, and answer 200 after some seconds."""
        return cls("slow", accepts=True, delay=seconds)

    @classmethod
    def hang(cls, seconds: float) -> Reply:
        """Close the connection without a response after some seconds. The batch is not accepted."""
        return cls("hang", "close", delay=seconds)

    @classmethod
    def drip(cls, seconds_per_byte: float) -> Reply:
        """Accept the batch immediately, and answer 200, the head one byte at a time."""
        return cls("drip", "drip", accepts=True, byte_delay=seconds_per_byte)

    @classmethod
    def garbage(cls) -> Reply:
        """Answer with bytes that are not HTTP, and close. The batch is not accepted."""
        return cls("garbage", "garbage")

    @property
    def answered_status(self) -> int | None:
        """The status that the client receives; None if there is no HTTP response."""
        return self.code if self.manner in ("answer", "drip") else None

    @property
    def pause(self) -> float:
        """Seconds for which Retry-After forbids further requests; 0 if it does not.

        As in Segment's libraries, it is respected only with retryable statuses, and up to
        300 s.
        """
        code = self.answered_status
        if code is None or not (code in _RETRYABLE or (code >= 500 and code not in _PERMANENT)):  # noqa: PLR2004
            return 0.0
        for name, value in self.headers:
            if name.lower() == "retry-after":
                return min(max(_read_retry_after(value), 0.0), _LONGEST_RETRY_AFTER)
        return 0.0


def _read_retry_after(value: str) -> float:
    if value.strip().isdigit():
        return float(value)
    try:
        return parsedate_to_datetime(value).timestamp() - time.time()
    except ValueError:
        return 0.0  # neither seconds nor a date, so clients ignore it


def _encode_body(
    code: int, success: bool, body: str | bytes | Mapping[str, object] | None
) -> bytes:
    if isinstance(body, bytes):
        return body
    if isinstance(body, str):
        return body.encode()
    if body is None:
        body = (
            {"success": True}
            if success
            else {"success": False, "message": http_phrase(code) or f"Status {code}"}
        )
    return json.dumps(body, separators=(",", ":")).encode()
