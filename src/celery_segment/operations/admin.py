"""What an operator does with a source: with its one shard, with each of several, or with none.

While a test captures the calls, it is a source in which nothing is stored.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Protocol

from celery_segment.buffer import (
    STORES,
    BufferAdmin,
    DeadGroup,
    DeadLetter,
    Period,
    Snapshot,
    Violations,
    merge_periods,
    merged_groups,
    sum_violations,
)
from celery_segment.runtime import Runtime

__all__ = ["SourceAdmin", "admin_of"]

_FIGURES = (
    *("buffered", "oldest", "closed", "failing"),
    *("concurrency", "memory_most", "refusing"),
)
#: The least difference of two times in Redis, in seconds.
_STEP = 0.001


class SourceAdmin(Protocol):
    """The operator's part of a source. ``BufferAdmin`` says what the methods do."""

    def snapshot(self) -> Snapshot:
        """Return the source's figures at this moment."""

    def violations(self) -> list[Violations]:
        """Return how messages violated the tracking plan; the most frequent first."""

    def history(self, hours: float) -> list[Period]:
        """Return what was counted in each period of the last hours, the oldest first."""

    def pause(self) -> bool:
        """Close the source; return False where it was paused already."""

    def resume(self) -> float:
        """Open the source; return the seconds for which it stays closed."""

    def last_buried(self) -> float | None:
        """Return when the youngest dead letter was buried."""

    def dead_letters(
        self,
        after: DeadLetter | None = None,
        *,
        since: float | None = None,
        until: float | None = None,
        limit: int = 100,
        group: str | None = None,
        newest_first: bool = False,
    ) -> list[DeadLetter]:
        """Return a page of the dead letters, by default the oldest first."""

    def dead_groups(self) -> list[DeadGroup]:
        """Return the groups of the dead letters."""

    def dead_letter(self, batch_id: str) -> DeadLetter | None:
        """Return a dead letter; None where it is none."""

    def is_dead(self, batch_id: str) -> bool:
        """Return whether a batch is a dead letter."""

    def messages(self, batch_id: str) -> list[bytes]:
        """Return a batch's messages."""

    def replay(self, batch_ids: Iterable[str]) -> int:
        """Make dead letters ready; return the number of messages."""

    def purge(self, batch_ids: Iterable[str]) -> int:
        """Delete dead letters; return the number of messages."""


def admin_of(runtime: Runtime, source: str) -> SourceAdmin:
    """Return the operator's part of a source: of an empty one while calls are captured."""
    if runtime.captures:
        return _Captured()
    admins = [buffer.admin for buffer in runtime.shards(source)]
    return admins[0] if len(admins) == 1 else _Sharded(admins)


class _Sharded:
    """The operator's part of a source with several shards.

    Its batches have the names of ``Source.batch_name``, since each shard counts its own.
    """

    def __init__(self, admins: Sequence[BufferAdmin]) -> None:
        self._admins = admins

    def snapshot(self) -> Snapshot:
        return Snapshot.sum_of([admin.snapshot() for admin in self._admins])

    def violations(self) -> list[Violations]:
        return sum_violations(admin.violations() for admin in self._admins)

    def history(self, hours: float) -> list[Period]:
        return merge_periods(admin.history(hours) for admin in self._admins)

    def pause(self) -> bool:
        paused = [admin.pause() for admin in self._admins]  # all of them
        return any(paused)

    def resume(self) -> float:
        return max(admin.resume() for admin in self._admins)

    def last_buried(self) -> float | None:
        times = [admin.last_buried() for admin in self._admins]
        return max((at for at in times if at is not None), default=None)

    def dead_letters(
        self,
        after: DeadLetter | None = None,
        *,
        since: float | None = None,
        until: float | None = None,
        limit: int = 100,
        group: str | None = None,
        newest_first: bool = False,
    ) -> list[DeadLetter]:
        # Ordered by time, then by shard, then by id; or all of it the other way round.
        bounds = {"since": since, "until": until, "limit": limit, "group": group}
        numbers = range(len(self._admins))[:: -1 if newest_first else 1]
        pages = [self._page(number, after, newest_first, **bounds) for number in numbers]
        by_time = heapq.merge(*pages, key=lambda letter: letter.buried, reverse=newest_first)
        return list(islice(by_time, limit))

    def _page(
        self, number: int, after: DeadLetter | None, newest_first: bool, **bounds: Any
    ) -> list[DeadLetter]:
        """Return the letters of one shard that may come behind a letter, by their names."""
        admin, own = self._admins[number], None
        if after is not None:
            shard, batch_id = self._place(after.id)
            own = replace(after, id=batch_id) if number == shard else None
            if newest_first:
                bounds["until"] = after.buried + (_STEP if number <= shard else 0)
            else:
                bounds["since"] = after.buried + (0 if number >= shard else _STEP)
        page = admin.dead_letters(own, newest_first=newest_first, **bounds)
        return [replace(letter, id=admin.source.batch_name(letter.id)) for letter in page]

    def dead_letter(self, batch_id: str) -> DeadLetter | None:
        number, own = self._place(batch_id)
        letter = self._admins[number].dead_letter(own) if number < len(self._admins) else None
        return replace(letter, id=batch_id) if letter else None

    def dead_groups(self) -> list[DeadGroup]:
        return merged_groups(admin.dead_groups() for admin in self._admins)

    def is_dead(self, batch_id: str) -> bool:
        number, own = self._place(batch_id)
        return number < len(self._admins) and self._admins[number].is_dead(own)

    def messages(self, batch_id: str) -> list[bytes]:
        number, own = self._place(batch_id)
        return self._admins[number].messages(own) if number < len(self._admins) else []

    def replay(self, batch_ids: Iterable[str]) -> int:
        return self._each(batch_ids, BufferAdmin.replay)

    def purge(self, batch_ids: Iterable[str]) -> int:
        return self._each(batch_ids, BufferAdmin.purge)

    def _each(self, batch_ids: Iterable[str], act: Callable[[BufferAdmin, list[str]], int]) -> int:
        """Act on the batches of each shard; return the number of messages."""
        own: dict[int, list[str]] = {}
        for number, batch_id in map(self._place, batch_ids):
            own.setdefault(number, []).append(batch_id)
        return sum(act(self._admins[n], ids) for n, ids in own.items() if n < len(self._admins))

    @staticmethod
    def _place(name: str) -> tuple[int, str]:
        """Return the shard of a batch's name, and the batch's id there."""
        number, mark, batch_id = name.partition("/")
        return (int(number), batch_id) if mark and number.isdecimal() else (0, name)


class _Captured:
    """The operator's part of an empty source, without a Redis."""

    def snapshot(self) -> Snapshot:
        texts = {"gate": b"", "tripped_cause": b"", "owner": b""}
        return Snapshot.of({**texts, "format": STORES, **dict.fromkeys(_FIGURES, 0)})

    def violations(self) -> list[Violations]:
        return []

    def history(self, hours: float) -> list[Period]:  # noqa: ARG002 - nothing is counted
        return []

    def pause(self) -> bool:
        return True

    def resume(self) -> float:
        return 0.0

    def last_buried(self) -> None:
        return None

    def dead_letters(
        self,
        after: DeadLetter | None = None,  # noqa: ARG002 - there is none
        *,
        since: float | None = None,  # noqa: ARG002
        until: float | None = None,  # noqa: ARG002
        limit: int = 100,  # noqa: ARG002
        group: str | None = None,  # noqa: ARG002
        newest_first: bool = False,  # noqa: ARG002
    ) -> list[DeadLetter]:
        return []

    def dead_letter(self, batch_id: str) -> None:  # noqa: ARG002
        return None

    def dead_groups(self) -> list[DeadGroup]:
        return []

    def is_dead(self, batch_id: str) -> bool:  # noqa: ARG002
        return False

    def messages(self, batch_id: str) -> list[bytes]:  # noqa: ARG002
        return []

    def replay(self, batch_ids: Iterable[str]) -> int:  # noqa: ARG002
        return 0

    def purge(self, batch_ids: Iterable[str]) -> int:  # noqa: ARG002
        return 0
