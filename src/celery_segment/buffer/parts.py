"""Many messages are stored in parts, of which each takes one round trip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

__all__ = ["APPEND_BYTES", "most_messages", "parts_of"]

#: Bounds of the work that one append does.
APPEND_MESSAGES = 500
APPEND_BATCHES = 20
APPEND_BYTES = 480_000


def parts_of(
    messages: Sequence[bytes], max_batch_messages: int, most_bytes: int = APPEND_BYTES
) -> Iterator[Sequence[bytes]]:
    """Cut messages into parts for one round trip each.

    Args:
        messages: The messages.
        max_batch_messages: The source's greatest number of messages in a batch.
        most_bytes: The greatest size of a part, in bytes.
    """
    most = most_messages(max_batch_messages)
    for start in range(0, len(messages), most):
        yield from _within(messages[start : start + most], most_bytes)


def most_messages(max_batch_messages: int) -> int:
    """Return the greatest number of messages in a part."""
    return min(APPEND_MESSAGES, APPEND_BATCHES * max_batch_messages)


def _within(part: Sequence[bytes], most_bytes: int) -> Iterator[Sequence[bytes]]:
    if len(part) == 1 or sum(map(len, part)) + len(part) <= most_bytes:
        yield part
        return
    half = len(part) // 2
    yield from _within(part[:half], most_bytes)
    yield from _within(part[half:], most_bytes)
