"""How many processes of a worker may deliver at the same time.

A slot is a lock on a byte of a file that the worker's processes inherit: the operating
system gives it back when its process ends, however that happens.
"""

from __future__ import annotations

import os
import struct
import tempfile
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Lock
from typing import TYPE_CHECKING, Any

try:
    import fcntl
except ImportError:  # there is none on Windows, where a worker has one process
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from celery_segment.delivery.key import KeyTimes

__all__ = ["Slots", "share_slots", "slots_of"]

#: Where an application keeps the slots of its worker.
_ATTRIBUTE = "_segment_slots"
#: The file holds the number of slots and, for each shard of a source, times by the clock that all
#: processes share: since when it waits for a slot (0: it does not); and, with the first shard,
#: until when the source is left to other workers, and when its write key was accepted and refused
#: (see ``KeyTimes``). Behind these are the last batches that were refused with the key, in a place
#: by its number: the number, a time.
_COUNT, _TIME, _BATCH = struct.Struct("<Q"), struct.Struct("<d"), struct.Struct("<dd")
_SINCE, _UNTIL, _ACCEPTED, _REFUSED, _FIRST_BATCH = range(5)
_BATCHES = 16
_TIMES = _FIRST_BATCH + 2 * _BATCHES
#: A slot is a locked byte: the first range is that of all sources, then each has one of its own.
_RANGE = 4_096


class Slots:
    """Slots for deliveries, which the processes and threads of a worker share.

    Of several sources none takes all slots, if there is more than one: an endpoint that hangs
    leaves another source one. Who finds none is noted, and is the next.

    Args:
        shards: The name of the source of each shard, by the shard's own.
        share: The share of the worker's processes that may deliver at the same time.

    Attributes:
        unread: The shards of which is not known yet whether this release reads them, since Redis
            was away when the worker started.
    """

    def __init__(self, shards: Mapping[str, str], share: float) -> None:
        self._source_of = dict(shards)
        self._shards = list(shards)
        self._sources = list(dict.fromkeys(shards.values()))
        self._share = share
        self._lock = Lock()
        self._own: set[int] = set()
        self.unread: set[str] = set()
        self._file = _new_file()
        weakref.finalize(self, os.close, self._file)
        self.resize(1)

    @property
    def total(self) -> int:
        """The number of slots."""
        return int(_COUNT.unpack(os.pread(self._file, _COUNT.size, 0))[0])

    def resize(self, processes: int) -> None:
        """Fit the number of slots to the number of the worker's processes, or threads."""
        count = min(max(int(self._share * processes), 1), _RANGE)
        os.pwrite(self._file, _COUNT.pack(count), 0)

    @contextmanager
    def taken(self, shard: str) -> Iterator[bool]:
        """Hold a slot for the time of a block; where there is none, yield False."""
        slots = self._take(self._source_of[shard])
        self._note(shard, waits=not slots)
        try:
            yield bool(slots)
        finally:
            for slot in slots:
                self._give_back(slot)

    def next_waiting(self) -> str | None:
        """Return the shard that has waited for a slot for the longest, and forget that it did."""
        since = {shard: self.read(shard, _SINCE) for shard in self._shards}
        waiting = [shard for shard in self._shards if since[shard]]
        if not waiting:
            return None
        first = min(waiting, key=since.__getitem__)
        self._note(first, waits=False)
        return first

    def any_free(self) -> bool:
        """Return whether a delivery could begin in this worker now."""
        slot = self._take_one(0, self.total)
        if slot is not None:
            self._give_back(slot)
        return slot is not None

    def _take(self, source: str) -> list[int]:
        total = self.total
        own = total - 1 if total > 1 and len(self._sources) > 1 else total
        of_source = self._take_one((self._sources.index(source) + 1) * _RANGE, own)
        if of_source is None:
            return []
        of_all = self._take_one(0, total)
        if of_all is None:
            self._give_back(of_source)
            return []
        return [of_source, of_all]

    def _take_one(self, first: int, count: int) -> int | None:
        with self._lock:
            for slot in range(first, first + count):
                if slot not in self._own and _locked(self._file, slot):
                    self._own.add(slot)
                    return slot
        return None

    def _give_back(self, slot: int) -> None:
        with self._lock:
            self._own.discard(slot)
            if fcntl:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, slot)

    def rest(self, source: str, seconds: float) -> None:
        """Have this worker leave a source to other workers for some time."""
        self.write(source, _UNTIL, time.monotonic() + seconds)

    def rests(self, source: str) -> bool:
        """Return whether this worker leaves a source to other workers at present."""
        return self.read(source, _UNTIL) > time.monotonic()

    def key_times(self, source: str) -> KeyTimes:
        """Return when a source's write key was accepted and refused in this worker."""
        return _SharedTimes(self, source)

    def _note(self, shard: str, *, waits: bool) -> None:
        if waits and self.read(shard, _SINCE):
            return  # since the first time
        self.write(shard, _SINCE, time.monotonic() if waits else 0.0)

    def read(self, shard: str, which: int) -> float:
        """Return one of a shard's times; 0 where there is none."""
        return float(self._read(_TIME, shard, which)[0])

    def write(self, shard: str, which: int, at: float) -> None:
        """Set one of a shard's times."""
        os.pwrite(self._file, _TIME.pack(at), self._place(shard, which))

    def read_batch(self, source: str, batch: int) -> float:
        """Return the time that is kept for a batch; 0 where there is none."""
        number, at = self._read(_BATCH, source, _place_of(batch))
        return float(at) if number == batch else 0.0

    def write_batch(self, source: str, batch: int, at: float) -> None:
        """Keep a time for a batch; that of the one before in its place is forgotten."""
        # Number and time at once: another process reads both or neither.
        os.pwrite(self._file, _BATCH.pack(batch, at), self._place(source, _place_of(batch)))

    def _read(self, form: struct.Struct, shard: str, which: int) -> tuple[Any, ...]:
        found = os.pread(self._file, form.size, self._place(shard, which))
        return form.unpack(found.ljust(form.size, b"\0"))

    def _place(self, shard: str, which: int) -> int:
        return _COUNT.size + (_TIMES * self._shards.index(shard) + which) * _TIME.size


def _place_of(batch: int) -> int:
    return _FIRST_BATCH + 2 * (batch % _BATCHES)


class _SharedTimes:
    """The times of a write key's answers, of all processes of a worker: they share the key."""

    def __init__(self, slots: Slots, source: str) -> None:
        self._slots = slots
        self._source = source

    @property
    def accepted(self) -> float:
        return self._slots.read(self._source, _ACCEPTED)

    @accepted.setter
    def accepted(self, at: float) -> None:
        self._slots.write(self._source, _ACCEPTED, at)

    @property
    def refused(self) -> float:
        return self._slots.read(self._source, _REFUSED)

    @refused.setter
    def refused(self, at: float) -> None:
        self._slots.write(self._source, _REFUSED, at)

    def refused_with(self, batch: int) -> float:
        return self._slots.read_batch(self._source, batch)

    def set_refused_with(self, batch: int, at: float) -> None:
        self._slots.write_batch(self._source, batch, at)


def slots_of(app: Any) -> Slots | None:
    """Return the slots of the worker that this process belongs to; None outside of a worker."""
    return app.__dict__.get(_ATTRIBUTE)  # type: ignore[no-any-return]


def share_slots(app: Any, slots: Slots) -> None:
    """Have the processes that are forked from this one share these slots."""
    app.__dict__[_ATTRIBUTE] = slots


def _new_file() -> int:
    """Return a file without a name, which the worker's processes inherit."""
    if hasattr(os, "memfd_create"):  # works where no directory is writable
        with suppress(OSError):
            return os.memfd_create("segment-slots")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _locked(file: int, slot: int) -> bool:
    """Lock a byte of a file; return False where another process holds it."""
    if fcntl is None:
        return True
    try:
        # By process, not by open file: processes that inherited the file lock it separately.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
    except OSError:
        return False
    return True
