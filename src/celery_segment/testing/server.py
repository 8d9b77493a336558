"""A local endpoint that stands in for Segment's ``/v1/batch``.

    with SegmentServer() as server:
        server.reply(Reply.status(503), times=2)
        ...                                   # deliver to server.url
        assert server.wait_for_messages(10, timeout=5)
        assert server.violations == []

It refuses what Segment refuses, records what a client's bug would send, and
fails in any way it is told to.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from celery_segment.testing.listener import Listener
from celery_segment.testing.protocol import read_request
from celery_segment.testing.reply import Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from email.message import Message
    from types import TracebackType

    from typing_extensions import Self

    from celery_segment.testing.protocol import Request

__all__ = ["Received", "SegmentServer"]

_OK = Reply.ok()
#: Answered to whoever watches the server, and not recorded: it is none of Segment's paths.
_HEALTH = "/health"


@dataclass(frozen=True)
class Received:
    """One request that the server has read, and what it decided.

    Attributes:
        at: When it arrived, by ``time.monotonic()``.
        status: The status answered; None when there was no HTTP answer.
        reply: The name of the scripted ``Reply``; ``ok`` without one, ``refused``
            when a check of Segment's limits decided.
        headers: The request's headers under ``Title-Case`` names, without
            Authorization.
        write_key: The key it came with.
        bytes: The size of its body, uncompressed.
        message_ids: The messageIds, in order; "" where one is missing.
        messages: The messages; empty with ``record="ids"``.
        retry_count: X-Retry-Count; 0 when absent.
        sent_at: The body's sentAt.
        accepted: Whether its messages count as received.
        method: The request's method.
        path: The request's target.
        violations: What in it broke Segment's contract.
    """

    at: float
    status: int | None
    reply: str
    headers: dict[str, str] = field(repr=False)
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


class _Promise(NamedTuple):
    """A Retry-After: from when it was given, until when nothing may come."""

    given: float
    until: float


class SegmentServer:
    """A threaded HTTP server that behaves as Segment's batch endpoint.

    A request is recorded when its fate is decided, before the answer goes out:
    a client that has its answer finds its request here. The records are live
    objects; read them when traffic has ended, or inside ``wait_for``. GET /health
    is answered 200 while it runs, and is not recorded.

    Args:
        port: The port; 0 for any that is free. A restart keeps it.
        host: The address to listen on.
        write_keys: The keys that are accepted; None for any that is not empty.
        strict_keys: Answer 401 to another key. Segment itself answers 200 and
            discards the events, as this server does with False.
        record: ``"messages"``, or ``"ids"`` for runs whose messages would not fit
            in memory.
        in_flight_grace: For how many seconds after a Retry-After was given other
            requests are taken to have been under way already.
        on_request: Called with each ``Received``, one at a time.

    Attributes:
        requests: Every request, in the order of their decisions.
        messages: Every accepted message, duplicates included.
        received: How many times each messageId was accepted.
        violations: What broke Segment's contract or came before a Retry-After
            had passed.
    """

    def __init__(
        self,
        port: int = 0,
        write_keys: Iterable[str] | None = None,
        record: Literal["messages", "ids"] = "messages",
        *,
        host: str = "127.0.0.1",
        strict_keys: bool = True,
        in_flight_grace: float = 0.0,
        on_request: Callable[[Received], None] | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.requests: list[Received] = []
        self.messages: list[dict[str, Any]] = []
        self.received: Counter[str] = Counter()
        self.violations: list[str] = []
        self._write_keys = None if write_keys is None else frozenset(write_keys)
        self._strict_keys = strict_keys
        self._keep_messages = record == "messages"
        self._grace = in_flight_grace
        self._on_request = on_request
        self._changed = threading.Condition()
        self._listener: Listener | None = None
        self._promises: dict[str | None, _Promise] = {}
        self._queue: deque[Reply] = deque()
        self._always: Reply | None = None
        self._rule: Callable[[Request], Reply | None] | None = None
        self._spoils: Callable[[dict[str, Any]], bool] | None = None

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
        """Listen. After a ``stop()``, on the same port and with the same records."""
        if self._listener is None:
            self._listener = Listener((self.host, self.port), self._receive, self._note_failure)
            self.port = self._listener.server_port

    def stop(self) -> None:
        """Close the port and every connection at once, unanswered requests included."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.stop()

    @property
    def url(self) -> str:
        """The host to deliver to, such as ``http://127.0.0.1:40123``."""
        return f"http://{self.host}:{self.port}"

    @property
    def duplicates(self) -> int:
        """How many acceptances there were beyond each message's first."""
        with self._changed:
            return self.received.total() - len(self.received)

    def clear(self) -> None:
        """Forget all that was recorded, and every Retry-After given."""
        with self._changed:
            self.requests.clear()
            self.messages.clear()
            self.received.clear()
            self.violations.clear()
            self._promises.clear()

    def reply(self, reply: Reply, times: int = 1) -> None:
        """Queue a reply for the next ``times`` batches, ahead of all other scripts."""
        with self._changed:
            self._queue.extend([reply] * times)

    def always(self, reply: Reply | None) -> None:
        """Give this reply to every batch, until changed; None ends it."""
        with self._changed:
            self._always = reply

    def rule(self, rule: Callable[[Request], Reply | None] | None) -> None:
        """Ask this function for each batch's reply; its None means: as if no rule were set.

        It runs on the connection's thread, so it may wait, and may run several
        times at once.
        """
        with self._changed:
            self._rule = rule

    def fail_messages(self, predicate: Callable[[dict[str, Any]], bool] | None) -> None:
        """Answer 400 to every batch with a message for which this holds; None ends it."""
        with self._changed:
            self._spoils = predicate

    def restore(self) -> None:
        """Forget every script: all batches within Segment's limits are accepted again."""
        with self._changed:
            self._queue.clear()
            self._always = self._rule = self._spoils = None

    def wait_for(self, predicate: Callable[[], bool], timeout: float) -> bool:
        """Wait until this holds, asking after each request. Give whether it does."""
        with self._changed:
            return self._changed.wait_for(predicate, timeout)

    def wait_for_messages(self, n_distinct: int, timeout: float) -> bool:
        """Wait until this many different messages were accepted."""
        return self.wait_for(lambda: len(self.received) >= n_distinct, timeout)

    def _receive(self, at: float, method: str, path: str, headers: Message, data: bytes) -> Reply:
        if (method, path) == ("GET", _HEALTH):
            return _OK
        request = read_request(
            at,
            method,
            path,
            headers,
            data,
            write_keys=self._write_keys,
            strict_keys=self._strict_keys,
            decode=self._keep_messages,
        )
        reply = self._settle(request)
        with self._changed:
            self._record(request, reply)
            self._changed.notify_all()
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
        with self._changed:
            if self._queue:
                return self._queue.popleft()
            if self._always is not None:
                return self._always
            spoils, rule = self._spoils, self._rule
        # Outside the lock: a rule may wait for what only another request brings.
        if spoils is not None and any(map(spoils, request.messages)):
            body = {"success": False, "code": "invalid_request", "message": "a message is invalid"}
            return replace(Reply.status(400, body=body), name="fail_messages")
        return (rule and rule(request)) or _OK

    def _record(self, request: Request, reply: Reply) -> None:
        violations = [problem.text for problem in request.problems if problem.violation]
        promise = self._promises.get(request.write_key)
        if promise and promise.given + self._grace <= request.at < promise.until:
            early = promise.until - request.at
            violations.append(f"a request came {early:.3f} s before its Retry-After had passed")
        if reply.pause:
            now = time.monotonic()
            until = max(now + reply.pause, promise.until if promise else now)
            self._promises[request.write_key] = _Promise(now, until)
        received = Received(
            at=request.at,
            status=reply.answered_status,
            reply=reply.name,
            headers=request.headers,
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
        self.requests.append(received)
        self.violations.extend(violations)
        if reply.accepts:
            self.received.update(received.message_ids)
            self.messages.extend(received.messages)
        if self._on_request is not None:
            self._on_request(received)

    def _note_failure(self, error: BaseException) -> None:
        with self._changed:
            self.violations.append(f"a script of the server raised {error!r}")
            self._changed.notify_all()
