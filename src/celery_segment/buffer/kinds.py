"""What a batch's messages are: their types, and the names of their events.

An event's name helps to find the code that sends it. It is the one part of a message that is
logged, and kept when a batch is given up; as one line, without characters that control a terminal.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any, NamedTuple

import msgspec

from celery_segment.buffer.body import Content, messages_of
from celery_segment.text import one_line

__all__ = ["OTHER_MESSAGES", "Kind", "kind_of", "kinds_of"]

#: Characters of a type and of an event's name.
TYPE, EVENT = 60, 100
#: What is shown in place of kinds that are not known, or too many.
OTHER_MESSAGES = "other messages"


class _Message(msgspec.Struct):
    type: str = "message"
    event: str = ""


class Kind(NamedTuple):
    """A kind of message.

    Attributes:
        type: Its type, such as "track"; "" for any.
        event: The event's name; "" where it has none.
    """

    type: str
    event: str

    @property
    def digest(self) -> str:
        """By which scripts recognize it among the kinds of one batch."""
        text = msgspec.json.encode(self)
        return hashlib.sha1(text, usedforsecurity=False).hexdigest()[:8]

    def __str__(self) -> str:
        if not self.type:
            return OTHER_MESSAGES
        return f"{self.type} {self.event!r}" if self.event else self.type


def kind_of(message: Any) -> Kind:
    """Return what a message is, given as JSON."""
    try:
        found = msgspec.json.decode(message, type=_Message)
    except msgspec.DecodeError:
        found = _Message()
    return Kind(_cut(found.type, TYPE) or "message", _cut(found.event, EVENT))


def kinds_of(stored: Content | None) -> Counter[Kind]:
    """Return how many messages of each kind a batch has; none where it cannot be read.

    Args:
        stored: The batch's content, as it is stored; None where that is lost.
    """
    try:
        return Counter(map(kind_of, messages_of(stored or b"")))
    except Exception:  # noqa: BLE001 - whatever is in Redis instead; the batch is settled
        return Counter()


def _cut(text: str, most: int) -> str:
    text = one_line(text)
    return text if len(text) <= most else f"{text[: most - 1]}…"
