"""A validated message's way into its source's buffer: defaults, hook, bytes, append, wake."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary, ref

from celery_segment import messages
from celery_segment.buffer import NOTHING, Beside
from celery_segment.config import settings_of
from celery_segment.doorbell import wake
from celery_segment.fallback import way_into
from celery_segment.messages import Message
from celery_segment.signals import messages_dropped

__all__ = ["Intake", "collect", "intake_of"]

#: Of each source, by application and name: messages that a ``batch()`` holds back, and
#: what lies beside them by place.
_Held = tuple[list[bytes], dict[int, Beside]]
_collected: ContextVar[dict[Intake, _Held] | None] = ContextVar("collected", default=None)


class Intake:
    """The way of one source's messages.

    Attributes:
        source: The source's name.
        enabled: Whether messages are stored; else they are validated alone.

    Its methods raise ``ValidationError`` where a message is refused and, where the
    settings do not say otherwise, ``BufferUnavailable`` or ``BufferFull``.
    """

    def __init__(self, app: Any, source: str) -> None:
        self._app = ref(app)
        self._source = s = settings_of(app).source(source)
        self.source, self.enabled = s.name, s.enabled
        self._way = way_into(app, source) if s.enabled else None
        self._plain = not (s.context or s.integrations or s.before_send)

    def prepare(self, message: Message) -> bytes | None:
        """Return a message's bytes, with the source's defaults; None when its hook drops it."""
        if self._plain:
            return messages.to_bytes(message)
        s = self._source
        messages.add_defaults(message, s.context, s.integrations)
        if s.before_send is None:
            return messages.to_bytes(message)
        changed = messages.changed(message, s.before_send)
        if changed is None:
            messages_dropped.send(sender=s.name, reason="before_send", messages=1)
            return None
        return messages.to_bytes(changed)

    def store(self, data: bytes, beside: Beside | None = None) -> None:
        """Store a message, and what is to lie beside it; wake a worker if need be."""
        if self._way is None:
            return
        collected = _collected.get()
        if collected is not None and self in collected:
            held, theirs = collected[self]
            if beside:
                theirs[len(held)] = beside
            held.append(data)
        elif self._way.append_many([data], {0: beside}) if beside else self._way.append(data):
            wake(self._app(), self.source)

    def store_many(self, data: Sequence[bytes], beside: Mapping[int, Beside] = NOTHING) -> None:
        """Store messages in their order, many to a round trip, as ``Buffer.append_many``."""
        if self._way is not None and self._way.append_many(data, beside):
            wake(self._app(), self.source)


_BY_APP: WeakKeyDictionary[Any, dict[str, Intake]] = WeakKeyDictionary()


def intake_of(app: Any, source: str) -> Intake:
    """Return the way into a source's buffer.

    Raises:
        ConfigurationError: The settings are wrong, there is no such source, or it
            needs a Redis and none is configured.
    """
    intakes = _BY_APP.setdefault(app, {})
    if source not in intakes:
        intakes[source] = Intake(app, source)
    return intakes[source]


@contextmanager
def collect(app: Any, source: str) -> Iterator[None]:
    """Hold a source's messages back and store them together at the end of the block."""
    intake = intake_of(app, source)
    outer = _collected.get() or {}
    if intake in outer:  # an inner block is part of the outer one
        yield
        return
    mine: _Held = ([], {})
    token = _collected.set({**outer, intake: mine})
    try:
        yield
    finally:
        _collected.reset(token)
        if mine[0]:
            intake.store_many(*mine)
            if app.conf.task_always_eager:
                wake(app, source)
