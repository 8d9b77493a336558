"""Messages that ``batch()`` or a web request holds back, to be stored in one round trip."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

from celery_segment.buffer import Attachments

if TYPE_CHECKING:
    from celery_segment.producer.producer import Producer

__all__ = ["Held", "HeldCalls", "current_hold", "held_by"]


@dataclass
class HeldMessages:
    """Messages of one producer that are held back.

    Attributes:
        messages: The messages, in their order.
        attachments: What is attached to some of them, by their place.
    """

    messages: list[bytes] = field(default_factory=list, repr=False)
    attachments: dict[int, Attachments] = field(default_factory=dict, repr=False)


#: What is held back, by producer.
Held = dict["Producer", HeldMessages]


class HeldCalls:
    """Holds messages back: those of one producer, or of each.

    Any thread may end it. A message that comes after the end, from a thread or task that
    outlives the block, is not held.

    Args:
        only: The producer whose messages are held; those of all when left out.
    """

    def __init__(self, only: Producer | None = None) -> None:
        self._only = only
        self._outer = current_hold()
        self._lock = Lock()
        self._held: Held | None = {}

    def add(self, producer: Producer, data: bytes, attachments: Attachments | None) -> bool:
        """Hold a message back; return False where neither this nor an outer block holds it."""
        if self._outer is not None and self._outer.add(producer, data, attachments):
            return True
        with self._lock:
            if self._held is None or self._only not in (None, producer):
                return False
            held = self._held.setdefault(producer, HeldMessages())
            if attachments:
                held.attachments[len(held.messages)] = attachments
            held.messages.append(data)
            return True

    def end(self) -> Held:
        """Hold nothing any more, and return what was held."""
        with self._lock:
            held, self._held = self._held, None
        return held or {}


_hold: ContextVar[HeldCalls | None] = ContextVar("hold", default=None)

#: Return what holds the present calls back; None outside of any such block.
current_hold = _hold.get


@contextmanager
def held_by(hold: HeldCalls) -> Iterator[None]:
    """Have the calls of a block held back."""
    token = _hold.set(hold)
    try:
        yield
    finally:
        # A generator that has the block may be ended in another context, which the block
        # has not changed.
        with suppress(ValueError):
            _hold.reset(token)
