"""What an operator finds while a test captures the calls: a source in which nothing is stored."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from celery_segment.buffer import STORES, BufferAdmin, DeadLetter, Snapshot
from celery_segment.runtime import Runtime

__all__ = ["admin_of"]

_FIGURES = (
    *("buffered", "oldest", "closed", "failing"),
    *("concurrency", "memory_most", "refusing"),
)


class _Captured(BufferAdmin):
    """The operator's part of an empty buffer, without a Redis."""

    def __init__(self) -> None:
        pass

    def snapshot(self) -> Snapshot:
        """Return figures that are all zero."""
        texts = {"gate": b"", "tripped_cause": b"", "owner": b""}
        return Snapshot.of({**texts, "format": STORES, **dict.fromkeys(_FIGURES, 0)})

    def pause(self) -> bool:
        """Pause nothing."""
        return True

    def resume(self) -> float:
        """Resume nothing."""
        return 0.0

    def last_buried(self) -> None:
        """Return None: there is no dead letter."""

    def dead_letters(self, *_: Any, **__: Any) -> list[DeadLetter]:
        """Return no dead letter."""
        return []

    def is_dead(self, batch_id: str) -> bool:  # noqa: ARG002 - as below, any
        """Return False: there is no dead letter."""
        return False

    def replay(self, batch_ids: Iterable[str]) -> int:  # noqa: ARG002
        """Replay nothing."""
        return 0

    def purge(self, batch_ids: Iterable[str]) -> int:  # noqa: ARG002
        """Delete nothing."""
        return 0


def admin_of(runtime: Runtime, source: str) -> BufferAdmin:
    """Return the operator's part of a source's buffer: an empty one while calls are captured."""
    return _Captured() if runtime.captures else runtime.buffer(source).admin
