"""What is known of a write key: whether the endpoint accepts it."""

from __future__ import annotations

import time
from typing import Protocol

from celery_segment.delivery.outcome import KeyState

__all__ = ["KeyRecord", "KeyTimes", "record_of"]


#: How many batches with which a key was refused a process remembers.
BATCHES = 64


class KeyTimes(Protocol):
    """Where the times of a write key's answers are kept, by ``time.monotonic()``; 0 is never.

    Attributes:
        accepted: When the last request began that was accepted.
        refused: When the key was first refused (401) since it was last accepted; 0 if it was not.
    """

    accepted: float
    refused: float

    def refused_with(self, batch: int) -> float:
        """Return when the key was refused with a batch of this number; 0 where that is unknown."""

    def set_refused_with(self, batch: int, at: float) -> None:
        """Keep that, and forget it of some other batch where there are too many."""


class _OfProcess:
    """Times that this process keeps for itself."""

    accepted = refused = 0.0

    def __init__(self) -> None:
        self._batches: dict[int, float] = {}

    def refused_with(self, batch: int) -> float:
        return self._batches.get(batch, 0.0)

    def set_refused_with(self, batch: int, at: float) -> None:
        self._batches.pop(batch, None)
        self._batches[batch] = at
        if len(self._batches) > BATCHES:
            del self._batches[next(iter(self._batches))]  # the oldest


class KeyRecord:
    """The answers to the write key of a source.

    A request that is refused (401) does not say what is at fault: the key, which may have been
    revoked a moment ago, or the batch. A key is cleared by being accepted after it was refused
    with a batch. Where it is refused with the same batch, or a half of it, once more, that is
    the batch's fault.

    Args:
        times: Where their times are kept; by default in this process alone.
    """

    def __init__(self, times: KeyTimes | None = None) -> None:
        self._times: KeyTimes = _OfProcess() if times is None else times

    def accept(self, began: float) -> None:
        """Note that a batch was delivered with the key, once Redis has that.

        Args:
            began: When its request began: the key was good then, or later.
        """
        self._times.accepted = max(self._times.accepted, began)
        self._times.refused = 0.0

    def refuse(self, batch_name: str, delivered_ago: float | None) -> KeyState:
        """Note that the key was refused with a batch; return what that says of the key.

        Args:
            batch_name: The batch's name in its source.
            delivered_ago: Seconds since a batch of the source was delivered by anybody.
        """
        times, now = self._times, time.monotonic()
        batch = _number_of(batch_name)
        before = times.refused_with(batch)
        cleared = 0 < before < times.accepted
        if cleared or not before:
            times.set_refused_with(batch, now)
        if not times.refused:
            times.refused = now
        others = delivered_ago is not None and delivered_ago < now - times.refused
        return KeyState(is_cleared=cleared, is_the_only_one_refused=others)


def _number_of(batch_name: str) -> int:
    """Return a number of a batch, which its halves share, and no batch of another shard has."""
    shard, _, batch_id = batch_name.rpartition("/")
    return (int(shard or 0) << 40) + int(batch_id.partition(".")[0])


#: Those of this process, by the source's name and its host.
_records: dict[tuple[str, str], KeyRecord] = {}


def record_of(source: str, host: str) -> KeyRecord:
    """Return what this process knows of a source's write key."""
    return _records.setdefault((source, host), KeyRecord())
