"""What the debugger keeps of a message and of a request. No I/O."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from sys import getsizeof
from typing import Any

import msgspec

from celery_segment.testing.protocol import Request
from celery_segment.testing.server import Received
from celery_segment.testing.violations import Violation, violations_of

__all__ = [
    "CHECKS",
    "LONGEST",
    "Check",
    "Message",
    "RequestRecord",
    "read_messages",
    "read_request",
]

#: Finds what is wrong with a message, given the message and its size.
Check = Callable[[Mapping[str, Any], int], Iterable[Violation]]
#: Those for all messages: Segment's own rules. That of a tracking plan is its source's.
CHECKS: tuple[Check, ...] = (violations_of,)

#: The most characters of a name or an id that are kept beside the message itself.
LONGEST = 200
#: Of a message's requests, so many are kept, the first and the last ones.
_REQUESTS = 10
#: The field of a message in which some clients repeat the write key, which is never kept.
_KEY = "writeKey"


@dataclass(slots=True)
class Message:
    """A message that arrived, once or several times.

    Attributes:
        number: Its number, by the order of arrival, from 1 on.
        at: When it arrived first, as a Unix time.
        raw: The message as it was sent.
        source: The name of its source.
        type: Its type; "" if it has none that is a text, like the next ones.
        name: The event's name, or that of the page or screen.
        label: What says most about it where it has no name: its traits, or the other id.
        user_id: Its userId.
        anonymous_id: Its anonymousId.
        message_id: Its messageId.
        violations: What is wrong with it.
        requests: The numbers of the requests that it came in.
        status: The status of the last one's response; None if there was none.
        accepted: How many times it was accepted; Segment keeps one of them.
        arrivals: How many times it arrived.
        flawed: Whether it, or a request that it came in, violates a rule.
    """

    number: int
    at: float
    raw: bytes = field(repr=False)
    source: str
    type: str
    name: str = field(repr=False)
    label: str = field(repr=False)
    user_id: str = field(repr=False)
    anonymous_id: str = field(repr=False)
    message_id: str
    violations: tuple[Violation, ...] = field(repr=False)
    requests: tuple[int, ...] = ()
    status: int | None = None
    accepted: int = 0
    arrivals: int = 0
    flawed: bool = False

    @property
    def size(self) -> int:
        """The size of its JSON, in bytes."""
        return len(self.raw)

    @property
    def footprint(self) -> int:
        """The memory that it takes, in bytes, about."""
        texts = (self.name, self.label, self.user_id, self.anonymous_id, self.message_id)
        return 400 + len(self.raw) + sum(map(getsizeof, texts))

    def arrive(self, request: RequestRecord) -> None:
        """Note that it came in a request."""
        if len(self.requests) < _REQUESTS:
            self.requests += (request.number,)
        else:
            self.requests = (*self.requests[:1], *self.requests[2:], request.number)
        self.arrivals += 1
        self.accepted += request.accepted
        self.status = request.status
        self.flawed = self.flawed or bool(request.violations or self.violations)


@dataclass(slots=True)
class RequestRecord:
    """A request that arrived, and how it was answered.

    Attributes:
        number: Its number, by the order of arrival, from 1 on.
        at: When it arrived, as a Unix time.
        method: Its method.
        path: Its path, without the query.
        source: The name of its source.
        status: The status of the response; None if there was none.
        reply: The name of the reply: "ok", "refused", or a failure's.
        accepted: Whether the messages count as received.
        size: The size of its body in bytes, before compression.
        retry_count: Its X-Retry-Count.
        sent_at: The body's sentAt.
        headers: Those of its headers that say something of the client.
        violations: What is wrong with it, its Retry-After among it.
        messages: The numbers of its messages.
    """

    number: int
    at: float
    method: str = field(repr=False)
    path: str
    source: str
    status: int | None
    reply: str = field(repr=False)
    accepted: bool
    size: int
    retry_count: int
    sent_at: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    violations: tuple[str, ...] = field(repr=False)
    messages: array[int] = field(default_factory=lambda: array("q"), repr=False)

    @property
    def footprint(self) -> int:
        """The memory that it takes, in bytes, about."""
        return 1_500 + 8 * len(self.messages) + sum(map(len, self.violations))


#: The headers that are kept.
_HEADERS = ("User-Agent", "Content-Encoding", "Content-Type", "Content-Length")


def read_request(received: Received, source: str, at: float) -> RequestRecord:
    """Return what is kept of a request. It has no number yet."""
    path = received.path.partition("?")[0]
    if received.write_key:  # some clients have it in the path
        path = path.replace(received.write_key, "***")
    return RequestRecord(
        number=0,
        at=at,
        method=received.method,
        path=path[:LONGEST],
        source=source,
        status=received.status,
        reply=received.reply,
        accepted=received.accepted,
        size=received.bytes,
        retry_count=received.retry_count,
        sent_at=received.sent_at[:LONGEST],
        headers={n: received.headers[n][:LONGEST] for n in _HEADERS if n in received.headers},
        violations=received.violations,
    )


def read_messages(
    request: Request, source: str, at: float, check: Check | None = None
) -> list[Message]:
    """Return what is kept of a request's messages. They have no numbers yet.

    Args:
        request: The request.
        source: The name of its source.
        at: When it arrived.
        check: What is compared with the messages besides ``CHECKS``: the source's tracking plan.
    """
    checks = CHECKS if check is None else (*CHECKS, check)
    return [
        _read(content, raw, source, at, checks)
        for content, raw in zip(request.messages, map(bytes, request.raw_messages), strict=True)
    ]


def _read(
    content: dict[str, Any], raw: bytes, source: str, at: float, checks: Sequence[Check]
) -> Message:
    violations = tuple(violation for check in checks for violation in check(content, len(raw)))
    if _KEY in content:
        raw = msgspec.json.encode({n: value for n, value in content.items() if n != _KEY})
    return Message(
        number=0,
        at=at,
        raw=raw,
        source=source,
        type=_text(content, "type"),
        name=_text(content, "event") or _text(content, "name"),
        label=_label(content),
        user_id=_text(content, "userId"),
        anonymous_id=_text(content, "anonymousId"),
        message_id=_text(content, "messageId"),
        violations=violations,
    )


def _text(content: Mapping[str, Any], name: str) -> str:
    value = content.get(name)
    return value[:LONGEST] if isinstance(value, str) else ""


def _label(content: Mapping[str, Any]) -> str:
    for name in ("groupId", "previousId"):
        if label := _text(content, name):
            return label
    traits = content.get("traits")
    return ", ".join(traits)[:LONGEST] if isinstance(traits, dict) else ""
