"""Follow the messages of sources as they are stored."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from celery_segment.buffer import Tail, Tailed
from celery_segment.errors import SegmentBufferError
from celery_segment.operations.admin import admin_of
from celery_segment.operations.reading import read_figures
from celery_segment.runtime import runtime_of
from celery_segment.text import counted, one_line

__all__ = ["Filter", "Look", "Stored", "follow"]

#: Seconds between two looks, and after one that Redis did not answer.
POLL, PAUSE = 0.25, 1.0


class _About(msgspec.Struct, rename="camel"):
    type: str = ""
    event: str | None = None
    name: str | None = None
    user_id: str | None = None
    anonymous_id: str | None = None
    message_id: str = ""
    timestamp: str = ""

    def __repr__(self) -> str:
        return f"_About(message_id={self.message_id!r})"  # the rest is people's data


_about_of = msgspec.json.Decoder(_About).decode


@dataclass(frozen=True)
class Stored:
    """A stored message.

    Attributes:
        source: The name of its source.
        type: Its type, such as "track".
        event: Its event, or the name of its page or screen.
        user_id: The user's id, if it has one.
        anonymous_id: The user's anonymous id, if it has one.
        message_id: Its id.
        timestamp: When it happened, as the call said: ISO 8601.
        payload: All of it as JSON.
    """

    source: str
    type: str
    event: str | None
    user_id: str | None = field(repr=False)
    anonymous_id: str | None = field(repr=False)
    message_id: str
    timestamp: str = field(repr=False)
    payload: bytes = field(repr=False)

    @classmethod
    def of(cls, source: str, payload: bytes) -> Stored | None:
        """Return a message as it is stored; None where it is none, but put there by a hand."""
        try:
            about = _about_of(payload)
        except msgspec.MsgspecError:
            return None
        event = about.name if about.event is None else about.event
        ids = (about.user_id, about.anonymous_id, about.message_id)
        return cls(source, about.type, event, *ids, about.timestamp, payload)


@dataclass(frozen=True)
class Filter:
    """Which messages are wanted: those that have one of the values of each kind that has any.

    Attributes:
        types: Types of messages.
        events: Names of events, pages or screens.
        users: Ids of users, or their anonymous ids.
    """

    types: Collection[str] = field(default=(), repr=False)
    events: Collection[str] = field(default=(), repr=False)
    users: Collection[str] = field(default=(), repr=False)

    def wants(self, message: Stored) -> bool:
        """Return whether a message is wanted."""
        return (
            (not self.types or message.type in self.types)
            and (not self.events or message.event in self.events)
            and (
                not self.users
                or message.user_id in self.users
                or message.anonymous_id in self.users
            )
        )


@dataclass(frozen=True)
class Look:
    """What one look at a source found.

    Attributes:
        messages: The wanted ones of the messages that were stored since the look before.
        problem: Why others may be missing; "" where they are complete.
    """

    messages: Sequence[Stored] = field(repr=False)
    problem: str = ""


def follow(
    app: Any,
    sources: Sequence[str],
    wanted: Filter = Filter(),
    *,
    started: Callable[[], object] = lambda: None,
) -> Iterator[Look]:
    """Return the messages of sources as they are stored, without an end.

    Those of a shard are in the order in which they were stored. A message is returned once, though
    it is stored again after a retry or a replay.

    Args:
        app: The Celery application.
        sources: The names of the sources.
        wanted: Which messages are wanted.
        started: Called once all that is stored from then on will be returned.

    Raises:
        SegmentBufferError: Redis did not answer the first look. A later one that is not answered
            is repeated.
        ConfigurationError: A source is stored in a format that this release does not read.
    """
    runtime = runtime_of(app)
    if runtime.captures:
        return
    followed = []
    for name in sources:
        read_figures(admin_of(runtime, name), name)
        followed += [_Followed(name, each.admin.tail()) for each in runtime.shards(name)]
    started()
    while True:
        wait = POLL
        for each in followed:
            try:
                found = each.look()
            except SegmentBufferError as error:
                wait = PAUSE
                found = each.failed(error)
            else:
                wait = 0.0 if each.is_behind else wait
            if found.messages or found.problem:
                yield Look([m for m in found.messages if wanted.wants(m)], found.problem)
        time.sleep(wait)


class _Followed:
    """Follows one source, or one shard, and says what is missing.

    Args:
        source: The name of the source.
        tail: Reads what is stored.
    """

    def __init__(self, source: str, tail: Tail) -> None:
        self._source, self._tail = source, tail
        self._name = tail.source.shard_name
        self._has_failed = False
        #: Whether there is more to be read at once.
        self.is_behind = False

    def look(self) -> Look:
        """Return what was stored since the last look, wanted or not."""
        found = self._tail.read()
        self._has_failed, self.is_behind = False, found.is_behind
        messages = [m for each in found.messages if (m := Stored.of(self._source, each))]
        return Look(messages, self._problem_of(found, len(found.messages) - len(messages)))

    def _problem_of(self, found: Tailed, unreadable: int) -> str:
        if found.is_reset:
            return f"{self._name}: was moved, restored or deleted in Redis: messages may be missing"
        if missed := found.missed + unreadable:
            return f"{self._name}: missed {counted(missed, 'message')}"
        return ""

    def failed(self, error: SegmentBufferError) -> Look:
        """Return what a look says that Redis did not answer: once for each such time."""
        self.is_behind = False
        problem = "" if self._has_failed else f"{self._name}: {one_line(str(error))}"
        self._has_failed = True
        return Look([], problem)
