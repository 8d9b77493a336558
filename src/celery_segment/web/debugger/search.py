"""Find messages in the debugger's store.

What an open page asks for is asked again twice a second, so each filter remembers what it has
found: then only what has arrived since is compared.
"""

from __future__ import annotations

import json
import re
import threading
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from fnmatch import translate

from celery_segment.errors import ValidationError
from celery_segment.web.debugger.records import LONGEST, Message
from celery_segment.web.debugger.store import Store

__all__ = ["FIELDS", "Filter", "Found", "Search", "read_boolean", "read_filter"]

#: Filters that are remembered.
_FILTERS = 32


@dataclass(frozen=True, slots=True)
class Filter:
    """Which messages to find; None leaves a condition out.

    In ``event`` and ``user``, ``*`` stands for any text.

    Attributes:
        type: The type.
        event: The event's name, or that of the page or screen.
        user: The userId or anonymousId.
        source: The name of the source.
        text: A text anywhere in the message's JSON, whatever the case of its ASCII letters.
        message_id: The messageId.
        violations: Whether it has to violate a rule.
        accepted: Whether it was accepted.
    """

    type: str | None = None
    event: str | None = field(default=None, repr=False)
    user: str | None = field(default=None, repr=False)
    source: str | None = None
    text: str | None = field(default=None, repr=False)
    message_id: str | None = None
    violations: bool = False
    accepted: bool | None = None

    @property
    def lasting(self) -> Filter:
        """The conditions that always or never hold for a message."""
        return replace(self, violations=False, accepted=None)

    def holds_now(self, message: Message) -> bool:
        """Return whether the other conditions hold."""
        if self.violations and not message.flawed:
            return False
        return self.accepted is None or self.accepted == bool(message.accepted)

    def among(self, messages: list[Message]) -> list[Message]:
        """Return the messages for which the lasting conditions hold."""
        # Loops over attributes, and no function per message, since there may be 100,000. What
        # takes longest comes last.
        if self.type is not None:
            messages = [m for m in messages if m.type == self.type]
        if self.source is not None:
            messages = [m for m in messages if m.source == self.source]
        if self.message_id is not None:
            given = self.message_id[:LONGEST]
            messages = [m for m in messages if m.message_id == given]
        if self.event is not None:
            names = _matching(self.event, (m.name for m in messages))
            messages = [m for m in messages if m.name in names]
        if self.user is not None:
            ids = _matching(self.user, (i for m in messages for i in (m.user_id, m.anonymous_id)))
            messages = [m for m in messages if m.user_id in ids or m.anonymous_id in ids]
        if self.text is not None:
            text, *others = _spellings(self.text)
            if others:
                texts = (text, *others)
                return [m for m in messages if any(map(m.raw.lower().__contains__, texts))]
            messages = [m for m in messages if text in m.raw.lower()]
        return messages


def _matching(wanted: str, values: Iterable[str]) -> set[str]:
    """Return the values that are equal to a text, or that match it where it has stars."""
    if "*" not in wanted:
        return {wanted[:LONGEST]}
    # Only the star means more than itself.
    match = re.compile(translate(re.sub(r"([\[?])", r"[\1]", wanted))).match
    return {value for value in set(values) if value and match(value)}


def _spellings(text: str) -> set[bytes]:
    """Return how a text may be written in JSON."""
    quoted = [json.dumps(text, ensure_ascii=escaped)[1:-1] for escaped in (False, True)]
    return {spelling.encode("utf-8", "surrogatepass").lower() for spelling in (text, *quoted)}


#: The names of a filter's conditions, in an address as well.
FIELDS = tuple(field.name for field in fields(Filter))
_BOOLEANS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def read_filter(get: Callable[[str], str | None]) -> Filter:
    """Return the filter that an address has, given a function that returns its values.

    Raises:
        ValidationError: A value is neither true nor false where it has to be.
    """
    texts = {name: get(name) for name in FIELDS if name not in {"violations", "accepted"}}
    violations, accepted = (read_boolean(n, get(n)) for n in ("violations", "accepted"))
    return Filter(**texts, violations=bool(violations), accepted=accepted)


def read_boolean(name: str, text: str | None) -> bool | None:
    """Return a value that is true or false; None where it is absent.

    Raises:
        ValidationError: It is neither.
    """
    if text is None:
        return None
    if text.lower() not in _BOOLEANS:
        raise ValidationError(name, f"must be one of {', '.join(_BOOLEANS)}")
    return _BOOLEANS[text.lower()]


@dataclass(frozen=True, slots=True, repr=False)
class Found:
    """Messages that were found.

    Attributes:
        messages: Some of them, in the order that was asked for.
        total: How many there are.
        more: Whether there are further ones in that direction.
    """

    messages: list[Message]
    total: int
    more: bool


@dataclass(slots=True, repr=False)
class _Known:
    """What a filter has found: the numbers of messages, up to the last that was compared."""

    numbers: array[int] = field(default_factory=lambda: array("q"))
    last: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Search:
    """Finds messages in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: OrderedDict[Filter, _Known] = OrderedDict()
        self._lock = threading.Lock()

    def newest(self, wanted: Filter, before: int | None = None, limit: int = 100) -> Found:
        """Return the newest messages, with lower numbers than a given one; newest first."""
        found = self._find(wanted)
        older = [m for m in found if m.number < before] if before is not None else found
        return Found(older[-limit:][::-1], len(found), len(older) > limit)

    def oldest(self, wanted: Filter, after: int = 0, limit: int = 100) -> Found:
        """Return the oldest messages, with higher numbers than a given one; oldest first."""
        found = self._find(wanted)
        newer = [m for m in found if m.number > after] if after else found
        return Found(newer[:limit], len(found), len(newer) > limit)

    def forget(self) -> None:
        """Forget what the filters have found."""
        with self._lock:
            self._known.clear()

    def _find(self, wanted: Filter) -> list[Message]:
        kept = self._store.messages_after(0)
        lasting = wanted.lasting
        if lasting != Filter():
            kept = self._matching(lasting, kept)
        if wanted == lasting:
            return kept
        return [message for message in kept if wanted.holds_now(message)]

    def _matching(self, lasting: Filter, kept: list[Message]) -> list[Message]:
        known = self._knowledge(lasting)
        first = kept[0].number if kept else 0
        with known.lock:
            fresh = kept[max(known.last + 1 - first, 0) :]
            known.numbers.extend(m.number for m in lasting.among(fresh))
            if kept:
                # Another search may have looked at newer ones meanwhile.
                known.last = max(known.last, kept[-1].number)
            del known.numbers[: bisect_left(known.numbers, first)]
            return [kept[n - first] for n in known.numbers if n - first < len(kept)]

    def _knowledge(self, lasting: Filter) -> _Known:
        with self._lock:
            known = self._known.setdefault(lasting, _Known())
            self._known.move_to_end(lasting)
            while len(self._known) > _FILTERS:
                self._known.popitem(last=False)
            return known
