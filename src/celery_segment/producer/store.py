"""Where a producer's messages go: a buffer, or what stands for one or several of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from celery_segment.buffer import NO_ATTACHMENTS, AttachmentsByPlace, Violations

__all__ = ["PartStore", "Store"]


class Store(Protocol):
    """Store of a producer's messages."""

    def append(self, message: bytes, /) -> None:
        """Store one message."""

    def append_many(
        self, messages: Sequence[bytes], attachments: AttachmentsByPlace = NO_ATTACHMENTS, /
    ) -> None:
        """Store messages in their order."""

    def quarantine(self, message: bytes, cause: str, reason: str, /) -> None:
        """Store a message as a dead letter; the reason has nothing of this message alone."""

    def count_dropped(self, reason: str, count: int, /) -> None:
        """Count messages that calls dropped."""

    def count_violations(self, found: Sequence[Violations], /) -> None:
        """Count messages that violated the tracking plan."""


class PartStore(Store, Protocol):
    """A store that takes a part of many messages whole, or not at all."""

    def append_part(
        self, messages: Sequence[bytes], attachments: AttachmentsByPlace = NO_ATTACHMENTS, /
    ) -> None:
        """Store all messages, or none."""
