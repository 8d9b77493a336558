"""A local endpoint that stands in for Segment's ``/v1/batch``.

    with SegmentServer() as server:
        server.reply(Reply.status(503), times=2)
        ...                                   # deliver to server.url
        assert server.wait_for_messages(10, timeout=5)
        assert server.violations == []

The server refuses what Segment refuses, records violations of Segment's limits, and can be
scripted to fail.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from celery_segment.testing.listener import Listener
from celery_segment.testing.protocol import HEALTH, read_request
from celery_segment.testing.reply import Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from email.message import Message
    from types import TracebackType

    from _typeshed.wsgi import WSGIApplication
    from typing_extensions import Self

    from celery_segment.testing.protocol import Request

__all__ = ["Received", "SegmentServer"]

_OK = Reply.ok()


@dataclass(frozen=True)
class Received:
    """A request, and the server's decision on it.

    Attributes:
        at: The time of its arrival, by ``time.monotonic()``.
        status: The status of the response; None if there was no HTTP response.
        reply: The name of the scripted ``Reply``; ``ok`` without a script, ``refused`` if
            the request was outside of Segment's limits.
        headers: The headers by ``Title-Case`` name, without Authorization.
        scheme: The scheme of Authorization: ``basic``, or ``bearer`` for a token; "" without one.
        write_key: The write key, of the body where there is a token; None if there is no
            readable one.
        bytes: The size of the uncompressed body.
        message_ids: The messageIds, in order; "" where one is missing.
        messages: The messages; empty with ``record="ids"``.
        retry_count: The value of X-Retry-Count; 0 if it is missing.
        sent_at: The body's sentAt.
        accepted: Whether the messages count as received.
        method: The method.
        path: The target.
        violations: Violations of Segment's format and limits.
    """

    at: float
    status: int | None
    reply: str
    headers: dict[str, str] = field(repr=False)
    scheme: str
    write_key: str | None = field(repr=False)
    bytes: int
    message_ids: tuple[str, ...]
    messages: tuple[dict[str, Any], ...] = field(repr=False)
    retry_count: int
    sent_at: str
    accepted: bool
    method: str
    path: str
    violations: tuple[str, ...]


class _Pause(NamedTuple):
    """A Retry-After: the times when it was sent and when it ends, by ``time.monotonic()``."""

    since: float
    until: float


class SegmentServer:
    """A threaded HTTP server that behaves like Segment's batch endpoint.

    A request is recorded before the response is sent, so it is in the records once the client
    has its response. The records are live objects: read them when there is no more traffic,
    or within ``wait_for``. GET /health is answered with 200 and not recorded.

    Args:
        port: The port; 0 for any free one. It stays the same after a restart.
        host: The address to listen on.
        write_keys: The write keys that are accepted; None for any that is not empty.
        strict_keys: Whether to answer another write key with 401. If False, the server
            answers 200 and discards the events, as Segment does.
        record: ``"messages"``; ``"ids"`` if the messages would not fit in memory; ``"nothing"`` if
            the server is never stopped: the records below then stay empty.
        in_flight_grace: Seconds after a Retry-After was sent for which other requests are
            not violations, since they may have been in flight already.
        on_request: Called with each ``Received``, one at a time.
        on_exchange: Called with each request, as it was read and as it was decided, before the
            response is sent; by several threads at a time.
        check_token: Has the server accept tokens of OAuth as well (``Authorization: Bearer``). It
            is called with each, and returns what is wrong with it, "" if nothing is: that is
            answered with 401, and an "expired" token is a violation.
        override: Asked for the reply to each batch before all scripts; None leaves it to them.
            ``restore()`` does not remove it. It may be called by several threads at a time.
        pages: A WSGI application that answers the requests to other paths than Segment's, such as
            the debugger's pages. They are not recorded.

    Attributes:
        requests: All requests, in the order in which they were decided.
        messages: All accepted messages, duplicates included.
        received: The number of times each messageId was accepted.
        violations: Violations of Segment's format and limits, and requests before a
            Retry-After had passed.
    """

    def __init__(
        self,
        port: int = 0,
        write_keys: Iterable[str] | None = None,
        record: Literal["messages", "ids", "nothing"] = "messages",
        *,
        host: str = "127.0.0.1",
        strict_keys: bool = True,
        in_flight_grace: float = 0.0,
        on_request: Callable[[Received], None] | None = None,
        on_exchange: Callable[[Request, Received], None] | None = None,
        check_token: Callable[[str], str] | None = None,
        override: Callable[[Request], Reply | None] | None = None,
        pages: WSGIApplication | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.requests: list[Received] = []
        self.messages: list[dict[str, Any]] = []
        self.received: Counter[str] = Counter()
        self.violations: list[str] = []
        self._write_keys = None if write_keys is None else frozenset(write_keys)
        self._strict_keys = strict_keys
        self._records = record != "nothing"
        self._keep_messages = record == "messages"
        self._grace = in_flight_grace
        self._on_request, self._on_exchange = on_request, on_exchange
        self._check_token = check_token
        self._override, self._pages = override, pages
        self._changed = threading.Condition()
        self._listener: Listener | None = None
        self._pauses: dict[str | None, _Pause] = {}
        self._queue: deque[Reply] = deque()
        self._always: Reply | None = None
        self._rule: Callable[[Request], Reply | None] | None = None
        self._is_invalid: Callable[[dict[str, Any]], bool] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start to listen. After a ``stop()``, the port and the records stay the same."""
        if self._listener is None:
            self._listener = Listener(
                (self.host, self.port), self._receive, self._note_failure, self._pages
            )
            self.port = self._listener.server_port

    def stop(self) -> None:
        """Close the port and all connections immediately, even with unanswered requests."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.stop()

    @property
    def url(self) -> str:
        """The base URL of the server, such as ``http://127.0.0.1:40123``."""
        return f"http://{self.host}:{self.port}"

    @property
    def duplicates(self) -> int:
        """The number of accepted messages that had been accepted before."""
        with self._changed:
            return self.received.total() - len(self.received)

    def clear(self) -> None:
        """Delete all records, and forget every Retry-After that was sent."""
        with self._changed:
            self.requests.clear()
            self.messages.clear()
            self.received.clear()
            self.violations.clear()
            self._pauses.clear()

    def reply(self, reply: Reply, times: int = 1) -> None:
        """Use a reply for the next ``times`` batches, before all other scripts."""
        with self._changed:
            self._queue.extend([reply] * times)

    def always(self, reply: Reply | None) -> None:
        """Use a reply for every batch from now on; None removes it."""
        with self._changed:
            self._always = reply

    def rule(self, rule: Callable[[Request], Reply | None] | None) -> None:
        """Call a function for each batch, which returns the reply; None removes it.

        If the function returns None, the batch is treated as without a rule. The function
        runs in the connection's thread: it may wait, and may run several times concurrently.
        """
        with self._changed:
            self._rule = rule

    def fail_messages(self, predicate: Callable[[dict[str, Any]], bool] | None) -> None:
        """Answer 400 to every batch with a message for which this is true; None removes it."""
        with self._changed:
            self._is_invalid = predicate

    def restore(self) -> None:
        """Remove all scripts: batches within Segment's limits are accepted again."""
        with self._changed:
            self._queue.clear()
            self._always = self._rule = self._is_invalid = None

    def wait_for(self, predicate: Callable[[], bool], timeout: float) -> bool:
        """Wait until a condition is true, checked after each request; return whether it is."""
        with self._changed:
            return self._changed.wait_for(predicate, timeout)

    def wait_for_messages(self, n_distinct: int, timeout: float) -> bool:
        """Wait until this many distinct messages were accepted; return whether they were."""
        return self.wait_for(lambda: len(self.received) >= n_distinct, timeout)

    def _receive(self, at: float, method: str, path: str, headers: Message, data: bytes) -> Reply:
        if (method, path) == ("GET", HEALTH):
            return _OK
        request = read_request(
            at,
            method,
            path,
            headers,
            data,
            write_keys=self._write_keys,
            strict_keys=self._strict_keys,
            check_token=self._check_token,
            decode=self._keep_messages or self._on_exchange is not None,
        )
        reply = self._settle(request)
        with self._changed:
            received = self._decide(request, reply)
            self._record(received)
            self._changed.notify_all()
        if self._on_exchange is not None:
            self._on_exchange(request, received)
        return reply

    def _settle(self, request: Request) -> Reply:
        reply = self._scripted(request) if request.is_batch else _OK
        codes = [problem.code for problem in request.problems if problem.code is not None]
        if not codes or not reply.accepts:
            return reply
        refusal = Reply.status(max(codes))
        if reply.name == "ok":
            return replace(refusal, name="refused", accepts=False)
        return replace(reply, code=refusal.code, body=refusal.body, accepts=False)

    def _scripted(self, request: Request) -> Reply:
        if self._override is not None and (reply := self._override(request)) is not None:
            return reply
        with self._changed:
            if self._queue:
                return self._queue.popleft()
            if self._always is not None:
                return self._always
            is_invalid, rule = self._is_invalid, self._rule
        # Not under the lock, since a rule may wait for another request.
        if is_invalid is not None and any(map(is_invalid, request.messages)):
            body = {"success": False, "code": "invalid_request", "message": "a message is invalid"}
            return replace(Reply.status(400, body=body), name="fail_messages")
        return (rule and rule(request)) or _OK

    def _decide(self, request: Request, reply: Reply) -> Received:
        violations = [problem.text for problem in request.problems if problem.violation]
        pause = self._pauses.get(request.write_key)
        if pause and pause.since + self._grace <= request.at < pause.until:
            early = pause.until - request.at
            violations.append(f"a request came {early:.3f} s before its Retry-After had passed")
        if reply.pause:
            now = time.monotonic()
            until = max(now + reply.pause, pause.until if pause else now)
            self._pauses[request.write_key] = _Pause(now, until)
        return Received(
            at=request.at,
            status=reply.answered_status,
            reply=reply.name,
            headers=request.headers,
            scheme=request.scheme,
            write_key=request.write_key,
            bytes=request.size,
            message_ids=request.message_ids,
            messages=request.messages if self._keep_messages else (),
            retry_count=request.retry_count,
            sent_at=request.sent_at,
            accepted=reply.accepts,
            method=request.method,
            path=request.path,
            violations=tuple(violations),
        )

    def _record(self, received: Received) -> None:
        if self._records:
            self.requests.append(received)
            self.violations.extend(received.violations)
            if received.accepted:
                self.received.update(received.message_ids)
                self.messages.extend(received.messages)
        if self._on_request is not None:
            self._on_request(received)

    def _note_failure(self, error: BaseException) -> None:
        with self._changed:
            self.violations.append(f"a script of the server raised {error!r}")
            self._changed.notify_all()
