"""What is known of a write key: whether the endpoint accepts it."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["KeyRecord", "KeyTimes", "record_of"]


class KeyTimes(Protocol):
    """Where the times of a write key's answers are kept, by ``time.monotonic()``; 0 is never.

    Attributes:
        accepted: When it was last accepted.
        refused: When it was first refused (401) since then; 0 if it was not.
    """

    accepted: float
    refused: float


class _OfProcess:
    """Times that this process keeps for itself."""

    accepted = refused = 0.0


class KeyRecord:
    """The answers to the write key of a source.

    Args:
        times: Where their times are kept; by default in this process alone.
    """

    def __init__(self, times: KeyTimes | None = None) -> None:
        self._times: KeyTimes = _OfProcess() if times is None else times

    @property
    def works(self) -> bool:
        """Whether the key was accepted, and not refused since."""
        return bool(self._times.accepted) and not self._times.refused

    def accept(self) -> None:
        """Note an answer that did not refuse the key."""
        self._times.accepted, self._times.refused = time.monotonic(), 0.0

    def refuse(self) -> None:
        """Note an answer that refused the key."""
        if not self._times.refused:
            self._times.refused = time.monotonic()

    def is_the_only_one_refused(self, delivered_ago: float | None) -> bool:
        """Return whether others deliver while this key is refused.

        Args:
            delivered_ago: Seconds since a batch of the source was delivered by anybody.
        """
        if not self._times.refused or delivered_ago is None:
            return False
        return delivered_ago < time.monotonic() - self._times.refused


#: Those of this process, by the source's name and its host.
_records: dict[tuple[str, str], KeyRecord] = {}


def record_of(source: str, host: str) -> KeyRecord:
    """Return what this process knows of a source's write key."""
    return _records.setdefault((source, host), KeyRecord())
