"""Find the sources that are stored in Redis, whether they are configured or not.

Workers note the names of their sources when they start, in a key that all sources share. A
call does not: in a cluster that key is in another slot than the source's keys, so noting it
would cost a second round trip. The note is read at once, however large the database is, but
it does not know sources for which no worker was started since. Whoever operates therefore
searches the keys as well. SCAN looks at a thousand keys at a time, which takes Redis less than
a millisecond, and about 0.8 s for a million keys. It ends after some seconds.

In a cluster, each node has keys of its own: each is to be searched.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from celery_segment.buffer.keys import prefix, shard_name_in
from celery_segment.buffer.scripts import script
from celery_segment.buffer.topology.types import Server, Topology
from celery_segment.errors import SegmentBufferError

__all__ = ["StoredSources", "noted_sources", "register_sources", "stored_sources"]

#: Keys that Redis looks at in one step.
STEP = 1_000


@dataclass(frozen=True, slots=True)
class StoredSources:
    """The sources that were found.

    Attributes:
        names: Their names.
        is_complete: Whether all keys of the database were looked at.
    """

    names: frozenset[str]
    is_complete: bool


def register_sources(topology: Topology, namespace: str, names: Iterable[str]) -> None:
    """Note that a worker is started which delivers these sources."""
    key = prefix("", namespace)
    topology.server(key).run(script("register"), key, *names)


def noted_sources(topology: Topology, namespace: str) -> frozenset[str]:
    """Return the names of the sources for which a worker was ever started."""
    key = prefix("", namespace)
    names = topology.server(key).execute("HKEYS", f"{key}:sources")
    return frozenset(name.decode("utf-8", "replace") for name in names)


def stored_sources(topology: Topology, namespace: str, seconds: float) -> StoredSources:
    """Return the names of the sources that have keys in Redis, or for which a worker was started.

    Args:
        topology: The servers of the buffer.
        namespace: The application's namespace.
        seconds: How long to search.
    """
    start = prefix("", namespace)[:-1]
    names = set(noted_sources(topology, namespace))
    until = time.monotonic() + seconds
    searched = [_search(server, start, until) for server in topology.servers()]
    names = names.union(*(each.names for each in searched))
    return StoredSources(frozenset(names), all(each.is_complete for each in searched))


def _search(server: Server, start: str, until: float) -> StoredSources:
    """Return the names of the sources that have keys on one server."""
    # Every source has :state, and :stats as well once a batch is sealed.
    pattern, cursor = f"{start}*}}:stat[es]", b"0"
    names: set[str] = set()
    while True:
        try:
            cursor, keys = server.execute("SCAN", cursor, "MATCH", pattern, "COUNT", STEP)
        except SegmentBufferError:
            return StoredSources(frozenset(names), is_complete=False)
        names |= _names(keys, start)
        if cursor == b"0" or time.monotonic() > until:
            return StoredSources(frozenset(names), is_complete=cursor == b"0")


def _names(keys: Iterable[bytes], start: str) -> set[str]:
    """Return the names in keys of this namespace: a colon in a name is another one's."""
    found = (key.decode("utf-8", "replace").removeprefix(start) for key in keys)
    names = (key.partition("}")[0] for key in found)
    return {shard_name_in(name) for name in names if ":" not in name}
