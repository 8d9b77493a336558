"""What the debugger's endpoint is told to do wrong."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from celery_segment.errors import ValidationError
from celery_segment.testing.protocol import Request
from celery_segment.testing.reply import Reply

__all__ = ["KINDS", "Failure", "Failures", "read_failure"]

#: The failures that there may be at the same time.
MAX_FAILURES = 20
#: The most requests, and the most seconds, of a failure.
_MOST, _LONGEST = 1_000_000, 300.0
_STATUSES = range(300, 600)


@dataclass(frozen=True, slots=True, repr=False)
class Kind:
    """A kind of failure.

    Attributes:
        title: Its name for people.
        about: What it is like, and what comes of it.
        text: What the endpoint does, given the failure.
        seconds: The default of the time that it has, in seconds; None where it has none.
        status: The default of the status that it has; None where it has none.
        reply: Returns its reply.
    """

    title: str
    about: str
    text: str
    reply: Callable[[Failure], Reply]
    seconds: float | None = None
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """What the endpoint does wrong.

    Attributes:
        kind: Its kind, one of ``KINDS``.
        seconds: For so long: the Retry-After of a 429, or the wait before an answer.
        status: The status of the answer.
        event: Only batches with an event of this name, if it is not "".
        left: For so many requests; None until it is removed.
        number: Its number.
    """

    kind: str
    seconds: float = 0.0
    status: int = 0
    event: str = ""
    left: int | None = None
    number: int = 0

    @property
    def text(self) -> str:
        """What the endpoint does, for people."""
        return KINDS[self.kind].text.format(seconds=self.seconds, status=self.status)

    def reply(self) -> Reply:
        """Return the endpoint's reply, which has the name of the kind."""
        return replace(KINDS[self.kind].reply(self), name=self.kind)

    def concerns(self, request: Request) -> bool:
        """Return whether a request is to fail."""
        return not self.event or any(m.get("event") == self.event for m in request.messages)


_REJECTION = Reply.status(
    400, body={"success": False, "code": "invalid_request", "message": "a message is invalid"}
)

#: The kinds of failures, by their names.
KINDS: MappingProxyType[str, Kind] = MappingProxyType({
    "rate-limit": Kind(
        "Rate limit",
        "Segment asks for a pause. Workers make it, and the message arrives afterwards.",
        "answers 429 with a Retry-After of {seconds:g} s",
        lambda failure: Reply.status(429, retry_after=round(failure.seconds)),
        seconds=5.0,
    ),
    "error": Kind(
        "Error",
        "Segment fails for a while. Workers try again, after longer and longer waits.",
        "answers {status}",
        lambda failure: Reply.status(failure.status),
        status=503,
    ),
    "slow": Kind(
        "Slow",
        "The batch is accepted, and the answer takes its time.",
        "answers after {seconds:g} s",
        lambda failure: Reply.slow(failure.seconds),
        seconds=5.0,
    ),
    "hang": Kind(
        "Hang",
        "Nothing comes, and then the connection is closed: as a network that fails.",
        "closes the connection after {seconds:g} s",
        lambda failure: Reply.hang(failure.seconds),
        seconds=5.0,
    ),
    "close": Kind(
        "Closed connection",
        "The connection is closed at once, without an answer.",
        "closes the connection",
        lambda _: Reply.close(),
    ),
    "reject": Kind(
        "Rejected message",
        "The batch is refused for one of its messages. Workers split it until that one is alone,"
        " and a dead letter.",
        "answers 400",
        lambda _: _REJECTION,
    ),
})  # fmt: skip


def read_failure(values: dict[str, Any]) -> Failure:
    """Return the failure that these values describe, as the API and the form have them.

    Raises:
        ValidationError: A value is unknown, wrong or missing.
    """
    unknown = values.keys() - {"kind", "seconds", "status", "event", "requests"}
    if unknown:
        raise ValidationError(
            min(unknown), "is unknown: see kind, seconds, status, event, requests"
        )
    name = values.get("kind")
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None or not isinstance(name, str):
        raise ValidationError("kind", f"must be one of {', '.join(KINDS)}")
    event = values.get("event") or ""
    if not isinstance(event, str):
        raise ValidationError("event", "must be the name of an event, a string")
    seconds, status = values.get("seconds"), values.get("status")
    return Failure(
        kind=name,
        seconds=_number("seconds", seconds, kind.seconds, 0, _LONGEST),
        status=round(_number("status", status, kind.status, _STATUSES[0], _STATUSES[-1])),
        event=event,
        left=_count(values.get("requests")),
    )


def _number(name: str, value: Any, default: float | None, least: float, most: float) -> float:
    if value is None:
        return default or 0
    if default is None:
        raise ValidationError(name, "this kind of failure has none: leave it out")
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ValidationError(name, f"must be a number from {least:g} to {most:g}")
    return value


def _count(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST:
        raise ValidationError("requests", f"must be a whole number from 1 to {_MOST:,}, or null")
    return value


class Failures:
    """The failures that are switched on, as the ``override`` of a ``SegmentServer``."""

    def __init__(self) -> None:
        self._failures: dict[int, Failure] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        #: A number that changes with what is switched on.
        self.version = 0

    def __call__(self, request: Request) -> Reply | None:
        """Return the reply of the first failure that concerns a batch; None if none does."""
        # The messages are decoded outside of the lock.
        concerned = {f.number for f in self.all() if f.concerns(request)}
        with self._lock:
            for failure in list(self._failures.values()):
                if failure.number in concerned:
                    self._count_down(failure)
                    return failure.reply()
        return None

    def _count_down(self, failure: Failure) -> None:
        if failure.left is None:
            return
        self.version += 1
        if failure.left > 1:
            self._failures[failure.number] = replace(failure, left=failure.left - 1)
        else:
            del self._failures[failure.number]

    def all(self) -> list[Failure]:
        """Return what is switched on, in order."""
        with self._lock:
            return list(self._failures.values())

    def add(self, failure: Failure) -> Failure:
        """Switch a failure on, and return it with its number.

        Raises:
            ValidationError: There are too many already.
        """
        with self._lock:
            if len(self._failures) >= MAX_FAILURES:
                raise ValidationError("kind", f"{MAX_FAILURES} failures are on: remove some first")
            added = replace(failure, number=next(self._numbers))
            self._failures[added.number] = added
            self.version += 1
            return added

    def remove(self, number: int) -> bool:
        """Switch one off; return whether it was on."""
        with self._lock:
            self.version += 1
            return self._failures.pop(number, None) is not None

    def clear(self) -> int:
        """Switch all off; return how many there were."""
        with self._lock:
            count = len(self._failures)
            self._failures.clear()
            self.version += 1
            return count
