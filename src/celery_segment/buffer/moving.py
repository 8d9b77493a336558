"""What is moved from one source to another: one batch after the other, then the totals."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Moving"]


@dataclass(frozen=True)
class Moving:
    """What is moved from one source to another: a batch, or the source's totals.

    Attributes:
        number: The number of the move.
        what: "ready", "dead" or "totals".
        content: The batch's messages as they are stored; empty for totals.
        fields: Names and values in turn: of the batch's record, or of the totals.
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
        """The number of messages; 0 for totals."""
        return 0 if self.what == "totals" else self.field(b"count")

    @property
    def size(self) -> int:
        """Their size as JSON, in bytes."""
        return 0 if self.what == "totals" else self.field(b"bytes")
