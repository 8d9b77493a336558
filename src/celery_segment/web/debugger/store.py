"""Keep what arrived at the debugger, within bounds: the oldest goes first."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from celery_segment.testing.protocol import Request
from celery_segment.testing.server import Received
from celery_segment.testing.violations import Violation
from celery_segment.web.debugger.records import (
    Check,
    Message,
    RequestRecord,
    read_messages,
    read_request,
)

__all__ = ["MAX_BYTES", "MAX_MESSAGES", "CheckOf", "Store", "Totals", "no_check"]

MAX_MESSAGES = 100_000
MAX_BYTES = 200_000_000
#: Requests that are kept, and the share of the memory that is theirs.
_MAX_REQUESTS, _REQUESTS_SHARE = 20_000, 10
#: Removed records are let go once they are this part of those that are kept.
_SOON = 32


#: Returns what a source's messages are compared with besides Segment's own rules, by its name.
CheckOf = Callable[[str], Check | None]


def no_check(_source: str) -> None:
    """Compare the messages of all sources with Segment's own rules alone."""


class _Record(Protocol):
    number: int

    @property
    def footprint(self) -> int: ...


R = TypeVar("R", bound=_Record)


class _Latest(Generic[R]):
    """Records by number, the latest ones: so many, and of so many bytes."""

    def __init__(self, max_count: int, max_bytes: int) -> None:
        self._max_count, self._max_bytes = max_count, max_bytes
        self._records: list[R] = []
        #: How many at the start of the list are out of it already, and the first's number.
        self._gone, self.first = 0, 1
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._records) - self._gone

    def append(self, record: R) -> None:
        record.number = self.first + len(self)
        self._records.append(record)
        self._bytes += record.footprint

    def trim(self) -> list[R]:
        """Remove the oldest ones that are beyond the bounds, and return them."""
        start = self._gone
        while len(self) > self._max_count or (self._bytes > self._max_bytes and len(self) > 1):
            self._bytes -= self._records[self._gone].footprint
            self._gone += 1
        removed = self._records[start : self._gone]
        self.first += len(removed)
        # Not each time, since it moves all that are left; but soon, since they take memory.
        if self._gone * _SOON > len(self):
            del self._records[: self._gone]
            self._gone = 0
        return removed

    def clear(self) -> None:
        self.first += len(self)
        self._records.clear()
        self._gone = self._bytes = 0

    def get(self, number: int) -> R | None:
        place = number - self.first
        return self._records[self._gone + place] if 0 <= place < len(self) else None

    def after(self, number: int) -> list[R]:
        """Return those with higher numbers, in order."""
        return self._records[self._gone + max(number + 1 - self.first, 0) :]

    def before(self, number: int | None, limit: int) -> list[R]:
        """Return the last ones with lower numbers, the newest first."""
        end = len(self) if number is None else min(max(number - self.first, 0), len(self))
        start = max(end - limit, 0)
        return self._records[self._gone + start : self._gone + end][::-1]


@dataclass(frozen=True, slots=True)
class Totals:
    """What has arrived since the start, whether it is still kept or not.

    Attributes:
        requests: Requests.
        accepted: Accepted messages, duplicates included.
        duplicates: Accepted messages that had been accepted before, as far as the former are kept.
        violations: Requests and messages that violate a rule.
    """

    requests: int = 0
    accepted: int = 0
    duplicates: int = 0
    violations: int = 0


class Store:
    """The messages and requests that arrived at a ``SegmentServer``, as its ``on_exchange``.

    Args:
        name_of: Returns the name of a write key's source. No key is kept.
        max_messages: How many messages are kept.
        max_bytes: How many bytes of memory they may take, about.
        check_of: Returns what holds a source's messages to its tracking plan, by its name.
    """

    def __init__(
        self,
        name_of: Callable[[str | None], str],
        *,
        max_messages: int = MAX_MESSAGES,
        max_bytes: int = MAX_BYTES,
        check_of: CheckOf = no_check,
    ) -> None:
        self._name_of, self._check_of = name_of, check_of
        self._messages: _Latest[Message] = _Latest(max_messages, max_bytes)
        self._requests: _Latest[RequestRecord] = _Latest(
            _MAX_REQUESTS, max_bytes // _REQUESTS_SHARE
        )
        self._by_id: dict[tuple[str, str], Message] = {}
        self._sources: Counter[str] = Counter()
        self._names: Counter[str] = Counter()
        self._totals = Totals()
        self._changed = threading.Condition()
        self._version = 0

    def add(self, request: Request, received: Received) -> None:
        """Keep a request and its messages."""
        at = time.time() - (time.monotonic() - request.at)
        source = self._name_of(request.write_key)
        record = read_request(received, source, at)
        messages = read_messages(request, source, at, self._check_of(source))
        with self._changed:
            self._requests.append(record)
            for message in messages:
                self._add(message, record)
            self._totals = replace(
                self._totals,
                requests=self._totals.requests + 1,
                violations=self._totals.violations + bool(record.violations),
            )
            for old in self._messages.trim():
                self._forget(old)
            self._requests.trim()
            self._note_change()

    def _add(self, message: Message, request: RequestRecord) -> None:
        key = (message.source, message.message_id)
        known = self._by_id.get(key) if message.message_id else None
        if known is not None and known.raw == message.raw:
            message = known
        else:
            if known is not None and known.accepted:
                text = f"message {known.number} had it before: Segment drops one of them"
                message.violations += (Violation("messageId", text),)
            self._messages.append(message)
            self._by_id[key] = message
            self._sources[message.source] += 1
            self._names[message.name] += 1
        again = bool(message.accepted)
        message.arrive(request)
        request.messages.append(message.number)
        self._totals = replace(
            self._totals,
            accepted=self._totals.accepted + request.accepted,
            duplicates=self._totals.duplicates + (again and request.accepted),
            violations=self._totals.violations + bool(message.violations and message.arrivals == 1),
        )

    def _forget(self, message: Message) -> None:
        key = (message.source, message.message_id)
        if self._by_id.get(key) is message:
            del self._by_id[key]
        for counter, name in ((self._sources, message.source), (self._names, message.name)):
            counter[name] -= 1
            if not counter[name]:
                del counter[name]

    def clear(self) -> int:
        """Delete all messages and requests; return how many messages there were."""
        with self._changed:
            count = len(self._messages)
            self._messages.clear()
            self._requests.clear()
            self._by_id.clear()
            self._sources.clear()
            self._names.clear()
            self._note_change()
        return count

    def _note_change(self) -> None:
        self._version += 1
        self._changed.notify_all()

    def wait(self, version: int, timeout: float) -> None:
        """Wait until something arrives after a version, or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._version != version, timeout)

    # What is kept. A message is a live object, which further arrivals change.

    @property
    def version(self) -> int:
        """A number that changes with each arrival."""
        return self._version

    @property
    def totals(self) -> Totals:
        """What has arrived since the start."""
        return self._totals

    def message(self, number: int) -> Message | None:
        """Return a message; None where it is not kept, or does not exist."""
        with self._changed:
            return self._messages.get(number)

    def messages_after(self, number: int) -> list[Message]:
        """Return the messages with higher numbers, in the order of arrival."""
        with self._changed:
            return self._messages.after(number)

    def request(self, number: int) -> RequestRecord | None:
        """Return a request; None where it is not kept, or does not exist."""
        with self._changed:
            return self._requests.get(number)

    def requests_after(self, number: int) -> list[RequestRecord]:
        """Return the requests with higher numbers, in the order of arrival."""
        with self._changed:
            return self._requests.after(number)

    def requests(self, before: int | None, limit: int) -> list[RequestRecord]:
        """Return the newest requests, with lower numbers than a given one."""
        with self._changed:
            return self._requests.before(before, limit)

    @property
    def count(self) -> int:
        """The number of messages that are kept."""
        return len(self._messages)

    def sources(self) -> list[str]:
        """Return the names of the kept messages' sources."""
        with self._changed:
            return sorted(self._sources)

    def names(self, limit: int) -> list[str]:
        """Return the most frequent names of events, pages and screens."""
        with self._changed:
            common = self._names.most_common(limit)
        return sorted(name for name, _ in common if name)
