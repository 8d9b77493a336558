"""Many messages are stored in parts, of which each takes one round trip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

__all__ = ["parts_of"]

#: Bounds of the work that one append does.
APPEND_MESSAGES = 500
APPEND_BYTES = 1_000_000


def parts_of(
    messages: Sequence[bytes], most_bytes: int = APPEND_BYTES
) -> Iterator[Sequence[bytes]]:
    """Cut messages into parts for one round trip each."""
    for start in range(0, len(messages), APPEND_MESSAGES):
        yield from _within(messages[start : start + APPEND_MESSAGES], most_bytes)


def _within(part: Sequence[bytes], most_bytes: int) -> Iterator[Sequence[bytes]]:
    if len(part) == 1 or sum(map(len, part)) + len(part) <= most_bytes:
        yield part
        return
    half = len(part) // 2
    yield from _within(part[:half], most_bytes)
    yield from _within(part[half:], most_bytes)
