"""A test records what is called, in place of storing it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from celery_segment.buffer import NO_ATTACHMENTS, Attachments, AttachmentsByPlace
from celery_segment.config import Source
from celery_segment.messages import Message, encode
from celery_segment.producer.producer import Producer

__all__ = ["RecordingProducer", "record", "recorded"]

#: Gets a source's name and a message's bytes.
Record = Callable[[str, bytes], None]
#: Gets the same of a message that awaits a commit; returns what is called at the commit.
Await = Callable[[str, bytes], Callable[[], object]]

#: Gets the messages of all applications of this process; None outside of ``recorded``.
record: Record | None = None
#: Gets those that await a commit, if anything does.
awaiting: Await | None = None


@contextmanager
def recorded(by: Record, awaited_by: Await | None = None) -> Iterator[None]:
    """Have the calls of this process recorded: none reaches Redis, or the broker.

    Args:
        by: Gets each message.
        awaited_by: Gets each message that is to be recorded once a transaction commits.
    """
    global record, awaiting
    outer = record, awaiting
    record, awaiting = by, awaited_by
    try:
        yield
    finally:
        record, awaiting = outer


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
        awaiting: Gets each message that awaits a commit.
    """

    def __init__(self, source: Source, record: Record, awaiting: Await | None = None) -> None:
        recorder = _Recorder(source.name, record)
        super().__init__(source, recorder, lambda: None, eager=False, delivers=False)
        self._awaiting = awaiting

    def await_commit(self, message: Message) -> Callable[[], bytes | None]:
        """Note that a message awaits a commit, until that."""
        if self._awaiting is None:
            return super().await_commit(message)
        committed = self._awaiting(self.source, encode(message))
        prepare = super().await_commit(message)

        def at_commit() -> bytes | None:
            committed()
            return prepare()

        return at_commit

    def store(self, data: bytes, attachments: Attachments | None = None) -> None:  # noqa: ARG002
        """Record a prepared message, and hold none back."""
        self._store.append(data)
