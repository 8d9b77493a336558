"""What the Redis behind a buffer tells of itself, and of who is at work in it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery_segment.buffer.keys import prefix
from celery_segment.buffer.pool import Pool
from celery_segment.errors import SegmentBufferError

__all__ = ["ServerFacts", "look_at_server", "taken"]

#: What INFO does not tell. Never ``*``: among the rest are passwords.
_CONFIG = ("appendfsync", "save", "min-replicas-to-write")


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """A Redis server at one moment.

    ``round_trip`` is in seconds; ``ahead`` is by how many its clock is before this
    host's. ``info`` are the fields of INFO and ``config`` those of CONFIG GET, both
    as text; what the server, or this user's ACL, does not give is absent.
    """

    address: str
    round_trip: float
    ahead: float
    info: Mapping[str, str]
    config: Mapping[str, str]


def look_at_server(pool: Pool) -> ServerFacts:
    """Read what there is to know of the server, in a few short commands.

    Raises:
        BufferUnavailable: Redis is out of reach, or refuses the user.
    """
    _time_of(pool)  # connects, so that what is measured next is the round trip alone
    here, started = time.time(), time.perf_counter()
    there = _time_of(pool)
    round_trip = time.perf_counter() - started
    info = _unless_refused(pool, "INFO") or b""
    config = {}
    for name in _CONFIG:
        reply = _unless_refused(pool, "CONFIG", "GET", name)
        if reply is None:
            break
        if reply:
            config[name] = reply[1].decode("utf-8", "replace")
    lines = (line.partition(":") for line in info.decode("utf-8", "replace").splitlines())
    return ServerFacts(
        address=pool.address,
        round_trip=round_trip,
        ahead=there - (here + round_trip / 2),
        info={name: value for name, _, value in lines if value},
        config=config,
    )


def taken(pool: Pool, source: str) -> int:
    """Return how many of a source's batches are in flight within their lease.

    Where messages wait and there is none, no worker has been at the source for a lease.
    """
    now = round(_time_of(pool) * 1000)
    return int(pool.command("ZCOUNT", f"{prefix(source)}:inflight", now, "+inf"))


def _time_of(pool: Pool) -> float:
    seconds, microseconds = pool.command("TIME")
    return int(seconds) + int(microseconds) / 1e6


def _unless_refused(pool: Pool, *command: str) -> Any:
    try:
        return pool.command(*command)
    except SegmentBufferError:
        return None
