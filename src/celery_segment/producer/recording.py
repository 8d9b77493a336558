"""A test records what is called, in place of storing it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from celery_segment.buffer import NO_ATTACHMENTS, Attachments, AttachmentsByPlace
from celery_segment.config import Source
from celery_segment.producer.producer import Producer

__all__ = ["RecordingProducer", "record", "recorded"]

#: Gets a source's name and a message's bytes.
Record = Callable[[str, bytes], None]

#: Gets the messages of all applications of this process; None outside of ``recorded``.
record: Record | None = None


@contextmanager
def recorded(by: Record) -> Iterator[None]:
    """Have the calls of this process recorded: none reaches Redis, or the broker."""
    global record  # noqa: PLW0603 - the process', as any of its threads may call
    outer, record = record, by
    try:
        yield
    finally:
        record = outer


class _Recorder:
    """The store of a source whose messages are recorded."""

    def __init__(self, source: str, record: Record) -> None:
        self._source = source
        self._record = record

    def append(self, message: bytes) -> None:
        """Record one message."""
        self._record(self._source, message)

    def append_many(
        self, messages: Sequence[bytes], _attachments: AttachmentsByPlace = NO_ATTACHMENTS
    ) -> None:
        """Record messages in their order."""
        for message in messages:
            self._record(self._source, message)


class RecordingProducer(Producer):
    """A producer whose messages are recorded at once, those of a ``batch()`` among them.

    Args:
        source: The source, enabled or not.
        record: Gets each message.
    """

    def __init__(self, source: Source, record: Record) -> None:
        recorder = _Recorder(source.name, record)
        super().__init__(source, recorder, lambda: None, eager=False, delivers=False)

    def store(self, data: bytes, attachments: Attachments | None = None) -> None:  # noqa: ARG002
        """Record a prepared message, and hold none back."""
        self._store.append(data)
