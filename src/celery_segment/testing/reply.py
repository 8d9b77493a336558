"""What a ``SegmentServer`` does with a request, as values."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Reply"]

# Segment's libraries honour Retry-After on these and on most 5xx, up to 300 s.
_RETRYABLE = frozenset({408, 410, 429, 460})
_PERMANENT = frozenset({501, 505})
_LONGEST_RETRY_AFTER = 300.0


@dataclass(frozen=True)
class Reply:
    """What the server does with a request that it has read.

    Build one with the constructors, each named after what the client meets. A
    reply that accepts does so only for a batch within Segment's limits: another
    batch is refused, in the reply's own manner.

    Attributes:
        name: The constructor's name, as ``Received.reply`` shows it.
        manner: ``answer``; ``drip`` (the head one byte at a time); ``garbage``;
            ``close`` or ``reset``, without an answer.
        code: The status of the answer.
        accepts: Whether the batch's messages count as received.
        delay: Seconds to wait before anything is sent, or closed.
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
        """Accept, and answer 200."""
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
        """Answer with this status; a 2xx accepts.

        Args:
            code: The status.
            headers: Further headers of the answer.
            body: The answer's body; a mapping is sent as JSON.
            retry_after: The Retry-After header: seconds, or any text as it is.
        """
        pairs = dict(headers or {})
        if retry_after is not None:
            pairs["Retry-After"] = str(retry_after)
        accepts = 200 <= code < 300  # noqa: PLR2004 - HTTP's own classes
        return cls(
            "status",
            code=code,
            accepts=accepts,
            headers=tuple(pairs.items()),
            body=_encode_body(code, accepts, body),
        )

    @classmethod
    def redirect(cls, location: str, code: int = 302) -> Reply:
        """Answer with a redirection, which a client must not follow with its key."""
        return cls(
            "redirect",
            code=code,
            headers=(("Location", location),),
            body=_encode_body(code, False, None),
        )

    @classmethod
    def close(cls) -> Reply:
        """Close the connection without an answer; nothing is accepted."""
        return cls("close", "close")

    @classmethod
    def reset(cls) -> Reply:
        """Reset the connection (TCP RST) without an answer; nothing is accepted."""
        return cls("reset", "reset")

    @classmethod
    def accept_then_close(cls) -> Reply:
        """Accept, but close without an answer: the client cannot know."""
        return cls("accept_then_close", "close", accepts=True)

    @classmethod
    def slow(cls, seconds: float) -> Reply:
        """Accept at once, and answer 200 after this many seconds."""
        return cls("slow", accepts=True, delay=seconds)

    @classmethod
    def hang(cls, seconds: float) -> Reply:
        """Close without an answer after this many seconds; nothing is accepted."""
        return cls("hang", "close", delay=seconds)

    @classmethod
    def drip(cls, seconds_per_byte: float) -> Reply:
        """Accept at once, and answer 200 with the head one byte at a time."""
        return cls("drip", "drip", accepts=True, byte_delay=seconds_per_byte)

    @classmethod
    def garbage(cls) -> Reply:
        """Answer with bytes that are not HTTP, and close; nothing is accepted."""
        return cls("garbage", "garbage")

    @property
    def answered_status(self) -> int | None:
        """The status that the client reads; None when it gets no HTTP answer."""
        return self.code if self.manner in ("answer", "drip") else None

    @property
    def pause(self) -> float:
        """Seconds for which a client must not come back, by Retry-After; 0 for none.

        As in Segment's libraries: on retryable statuses alone, up to 300 s.
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
        return 0.0  # neither form: a client has nothing to obey


def _encode_body(
    code: int, success: bool, body: str | bytes | Mapping[str, object] | None
) -> bytes:
    if isinstance(body, bytes):
        return body
    if isinstance(body, str):
        return body.encode()
    if body is None:
        body = {"success": True} if success else {"success": False, "message": _phrase(code)}
    return json.dumps(body, separators=(",", ":")).encode()


def _phrase(code: int) -> str:
    try:
        return HTTPStatus(code).phrase
    except ValueError:  # 460 is a status of AWS, not of the standard
        return f"Status {code}"
