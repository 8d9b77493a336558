"""Check a request against Segment's wire format and limits. No I/O.

The limits are those of Segment's HTTP API documentation: 500 KB per body, 2,500 messages,
32 KB per message, 100 characters of messageId. For the body, a KB is taken as 1,000 bytes,
the stricter interpretation.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from email.message import Message

__all__ = [
    "HEALTH",
    "MAX_DECODED_BYTES",
    "MAX_MESSAGE_BYTES",
    "Problem",
    "Request",
    "is_for_endpoint",
    "read_request",
]

PATH = "/v1/batch"
#: The path of health checks, which is not one of Segment's. Requests to it are not recorded.
HEALTH = "/health"
MAX_BODY_BYTES = 500_000
MAX_MESSAGES = 2_500
MAX_MESSAGE_BYTES = 32_768
MAX_MESSAGE_ID = 100
MAX_DECODED_BYTES = 16 * MAX_BODY_BYTES
"""Maximum number of bytes of a body that are read and decompressed. It is enough to report
the size of a body that is too large, and limits the effect of a decompression bomb."""

_ELSEWHERE = frozenset({404, 405, 411})


def is_for_endpoint(path: str) -> bool:
    """Return whether a path is one of Segment's, be it one that does not exist.

    So is one with something in front, as of a client whose host is configured with a path.
    """
    return path == HEALTH or "/v1/" in path


class Problem(NamedTuple):
    """A problem of a request.

    Attributes:
        text: A description, without payload or write key.
        code: The status of the response; None if the batch is accepted all the same.
        violation: Whether it is a bug of the client. A wrong write key is not, since it is a
            setting.
    """

    text: str
    code: int | None = 400
    violation: bool = True


@dataclass(frozen=True)
class Request:
    """A request, before the server has decided on the reply.

    Attributes:
        at: The time of its arrival, by ``time.monotonic()``.
        method: The method.
        path: The target.
        headers: The headers by ``Title-Case`` name, without Authorization.
        scheme: The scheme of Authorization: ``basic``, or ``bearer`` for a token; "" without one.
        write_key: The write key; None if there is no readable one.
        size: The size of the uncompressed body, in bytes.
        message_ids: The messageIds, in order; "" where one is missing.
        retry_count: The value of X-Retry-Count; 0 if it is missing.
        sent_at: The body's sentAt; "" if it is missing.
        problems: All problems of the request.
        raw_messages: The messages as JSON.
    """

    at: float
    method: str
    path: str
    headers: dict[str, str] = field(repr=False)
    scheme: str
    write_key: str | None = field(repr=False)
    size: int
    message_ids: tuple[str, ...]
    retry_count: int
    sent_at: str
    problems: tuple[Problem, ...]
    raw_messages: tuple[msgspec.Raw, ...] = field(repr=False)

    @cached_property
    def messages(self) -> tuple[dict[str, Any], ...]:
        """The messages of the batch, decoded at the first access."""
        return tuple(map(_decode_message, self.raw_messages))

    @property
    def is_batch(self) -> bool:
        """Whether this is a POST request to /v1/batch."""
        return self.method == "POST" and self.path == PATH


class _Envelope(msgspec.Struct):
    batch: list[msgspec.Raw]
    sent_at: str = msgspec.field(name="sentAt", default="")
    write_key: str | None = msgspec.field(name="writeKey", default=None)


class _Identity(msgspec.Struct):
    message_id: str = msgspec.field(name="messageId", default="")


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_identity = msgspec.json.Decoder(_Identity).decode
_decode_message = msgspec.json.Decoder(dict[str, Any]).decode
_MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def read_request(
    at: float,
    method: str,
    path: str,
    headers: Message,
    data: bytes,
    *,
    write_keys: frozenset[str] | None,
    strict_keys: bool,
    check_token: Callable[[str], str] | None,
    decode: bool,
) -> Request:
    """Read a request and find all of its problems.

    Args:
        at: The time of its arrival, by ``time.monotonic()``.
        method: The method.
        path: The target.
        headers: The headers.
        data: The body as it was received.
        write_keys: The write keys that are accepted; None for any that is not empty.
        strict_keys: Whether to answer a wrong write key with 401; Segment answers 200.
        check_token: Returns what is wrong with a token, "" if nothing is; None if none is
            accepted.
        decode: Whether to decode the messages now, which finds invalid JSON within them.
    """
    problems = list(_route_problems(method, path, headers))
    scheme, write_key, batch, retry_count = "", None, _Batch(), 0
    # If the request is not a batch at all, further problems would only be consequences.
    if not any(problem.code in _ELSEWHERE for problem in problems):
        batch = _read_batch(data, headers.get("Content-Encoding"), problems, decode=decode)
        scheme, write_key = _read_authorization(headers, batch, check_token, problems)
        if not write_key or (write_keys is not None and write_key not in write_keys):
            code = 401 if strict_keys else 200
            problems.append(Problem("the write key is wrong or missing", code, violation=False))
        retry_count = _read_retry_count(headers.get("X-Retry-Count"), problems)
    request = Request(
        at=at,
        method=method,
        path=path,
        headers={n.title(): v for n, v in headers.items() if n.lower() != "authorization"},
        scheme=scheme,
        write_key=write_key,
        size=batch.size,
        message_ids=batch.ids,
        retry_count=retry_count,
        sent_at=batch.sent_at,
        problems=tuple(problems),
        raw_messages=batch.raws,
    )
    if batch.messages is not None:
        # Set the cached property, since the messages have been decoded for the check.
        request.__dict__["messages"] = batch.messages
    return request


class _Batch(NamedTuple):
    size: int = 0
    raws: tuple[msgspec.Raw, ...] = ()
    ids: tuple[str, ...] = ()
    sent_at: str = ""
    messages: tuple[dict[str, Any], ...] | None = None
    write_key: str | None = None


def _route_problems(method: str, path: str, headers: Message) -> Iterator[Problem]:
    if path != PATH:
        yield Problem(f"the path is not {PATH}", 404)
    elif method != "POST":
        yield Problem(f"the method is {method}, not POST", 405)
    elif headers.get_content_type() != "application/json" or "Content-Type" not in headers:
        yield Problem("Content-Type is not application/json")
    elif "Content-Length" not in headers:
        yield Problem("Content-Length is missing", 411)


def _read_authorization(
    headers: Message,
    batch: _Batch,
    check_token: Callable[[str], str] | None,
    problems: list[Problem],
) -> tuple[str, str | None]:
    """Return the scheme and the write key, which is in the body where there is a token."""
    scheme, _, credentials = headers.get("Authorization", "").partition(" ")
    scheme = scheme.lower()
    if scheme != "bearer" or check_token is None:
        return scheme, _read_key(scheme, credentials, problems)
    if problem := check_token(credentials):
        # That a token was revoked, no client can know.
        problems.append(Problem(problem, 401, violation="expired" in problem))
    return scheme, batch.write_key


def _read_key(scheme: str, encoded: str, problems: list[Problem]) -> str | None:
    if not scheme:
        return None
    try:
        key, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        key, colon, password = "", "", ""
    if scheme != "basic" or not colon or password:
        problems.append(Problem("Authorization is not Basic with a write key and no password", 401))
        return None
    return key


def _read_retry_count(value: str | None, problems: list[Problem]) -> int:
    if value is None:
        return 0
    if not (value.isascii() and value.isdigit()):
        problems.append(Problem("X-Retry-Count is not a number", None))
        return 0
    return int(value)


def _read_batch(
    data: bytes, encoding: str | None, problems: list[Problem], *, decode: bool
) -> _Batch:
    try:
        body = _decode_body(data, encoding)
    except ValueError as error:
        problems.append(Problem(str(error)))
        return _Batch()
    if len(body) > MAX_BODY_BYTES:
        problems.append(Problem(f"the body has {len(body):,} bytes, above {MAX_BODY_BYTES:,}"))
    messages = None
    try:
        body.decode()
        envelope = _decode_envelope(body)
        if decode:
            messages = tuple(map(_decode_message, envelope.batch))
    except _MALFORMED as error:
        # The errors of msgspec contain the path and the type, never the value.
        reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else error
        problems.append(Problem(f"the body is not a batch in JSON: {reason}"))
        return _Batch(len(body))
    ids = tuple(map(_read_id, envelope.batch))
    if not envelope.sent_at:
        problems.append(Problem("sentAt is missing"))
    problems.extend(_message_problems(envelope.batch, ids))
    return _Batch(
        len(body), tuple(envelope.batch), ids, envelope.sent_at, messages, envelope.write_key
    )


def _read_id(raw: msgspec.Raw) -> str:
    try:
        return _decode_identity(raw).message_id
    except _MALFORMED:
        return ""


def _message_problems(raws: list[msgspec.Raw], ids: Iterable[str]) -> Iterator[Problem]:
    largest = max(map(len, raws), default=0)
    if largest > MAX_MESSAGE_BYTES:
        yield Problem(f"a message has {largest:,} bytes, above {MAX_MESSAGE_BYTES:,}")
    lengths = set(map(len, ids))
    if 0 in lengths:
        yield Problem("a message has no messageId that is a string")
    if max(lengths, default=0) > MAX_MESSAGE_ID:
        yield Problem(f"a messageId has more than {MAX_MESSAGE_ID} characters")
    if len(raws) > MAX_MESSAGES:
        # Segment answers 200 and discards the events.
        yield Problem(f"the batch has {len(raws):,} messages, above {MAX_MESSAGES:,}", 200)


def _decode_body(data: bytes, encoding: str | None) -> bytes:
    if encoding is None or encoding.lower() == "identity":
        return data
    if encoding.lower() != "gzip":
        raise ValueError("Content-Encoding is neither gzip nor identity")
    try:
        return _gunzip(data)
    except zlib.error:
        raise ValueError("the body is not gzip") from None


def _gunzip(data: bytes) -> bytes:
    parts, room = [], MAX_DECODED_BYTES
    while data and room > 0:  # a gzip body may have several members
        member = zlib.decompressobj(wbits=31)
        parts.append(member.decompress(data, room))
        room -= len(parts[-1])
        if not member.eof and room > 0:
            raise ValueError("the gzip body is cut off")
        data = member.unused_data
    return b"".join(parts)
