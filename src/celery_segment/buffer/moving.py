"""What is moved from one source to another: batch after batch, then the history and the totals."""

from __future__ import annotations

from dataclasses import dataclass, field

from celery_segment.buffer.body import measured

__all__ = ["Moving", "with_record"]

#: What is moved and holds messages.
_BATCHES = ("ready", "dead")


@dataclass(frozen=True)
class Moving:
    """What is moved from one source to another: a batch, a period of its history, or its totals.

    Attributes:
        number: The number of the move.
        what: "ready", "dead", "history" or "totals".
        content: The batch's messages as they are stored; when the period began; empty for totals.
        fields: Names and values in turn: of the batch's record, of the period, or of the totals.
        callbacks: Places and callbacks of its messages in turn.
        traces: Places and trace contexts of its messages in turn.
    """

    number: int
    what: str
    content: bytes = field(repr=False)
    fields: list[bytes] = field(repr=False)
    callbacks: list[bytes] = field(repr=False)
    traces: list[bytes] = field(repr=False)

    def field(self, name: bytes) -> int:
        """Return a number among the fields; 0 where it is missing."""
        found = dict(zip(self.fields[::2], self.fields[1::2], strict=True))
        return int(found.get(name, 0))

    @property
    def count(self) -> int:
        """The number of messages; 0 where it is no batch."""
        return self.field(b"count") if self.what in _BATCHES else 0

    @property
    def size(self) -> int:
        """Their size as JSON, in bytes."""
        return self.field(b"bytes") if self.what in _BATCHES else 0


def with_record(
    number: int, what: str, content: bytes, fields: list[bytes], *rest: list[bytes]
) -> Moving:
    """Return a batch to move with a record of how much it holds, which may have been lost.

    Of what cannot be read, the old source counts the messages as damaged.
    """
    record = dict(zip(fields[::2], fields[1::2], strict=True))
    if what in _BATCHES and b"count" not in record:
        count, size = measured(content) or (0, 0)
        record |= {b"count": b"%d" % count, b"bytes": b"%d" % size}
        record.pop(b"lost", None)
    return Moving(number, what, content, [each for pair in record.items() for each in pair], *rest)
