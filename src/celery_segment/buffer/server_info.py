"""What the Redis server of the buffer says about itself, and who is at work in it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery_segment.buffer.keys import prefix_of
from celery_segment.buffer.pool import Pool
from celery_segment.buffer.rights import Role, refused
from celery_segment.config import Source
from celery_segment.errors import SegmentBufferError

__all__ = ["ServerInfo", "count_leased", "read_run_id", "read_server_info"]

#: What INFO does not contain. Never ``*``: the rest includes passwords.
_CONFIG = ("appendfsync", "save", "min-replicas-to-write")


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A Redis server at one moment.

    Attributes:
        address: Its address.
        round_trip: Seconds that a command and its reply take.
        ahead: Seconds by which its clock is ahead of this host's.
        info: The fields of INFO, as text; empty where the user may not read it.
        config: Some fields of CONFIG GET, as text; those that cannot be read are absent.
        refused: The commands of the role that the user may not run; the error that says so where
            they could not be asked for.
    """

    address: str
    round_trip: float
    ahead: float
    info: Mapping[str, str]
    config: Mapping[str, str]
    refused: Sequence[str] | SegmentBufferError


def read_server_info(pool: Pool, source: Source, role: Role) -> ServerInfo:
    """Read what the server says about itself, in a few short commands.

    Args:
        pool: Connections to Redis.
        source: A source, by whose keys the user's rights are looked up.
        role: What the user is to be allowed.

    Raises:
        BufferUnavailable: Redis is unreachable, or refuses the user.
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
    return ServerInfo(
        address=pool.address,
        round_trip=round_trip,
        ahead=there - (here + round_trip / 2),
        info=_fields(info),
        config=config,
        refused=_refused(pool, source, role),
    )


def read_run_id(pool: Pool) -> str:
    """Return the server's run id, the same by whichever name it is reached; "" if not known.

    Raises:
        BufferUnavailable: Redis is unreachable, or refuses the user.
    """
    _time_of(pool)
    return _fields(_unless_refused(pool, "INFO", "server") or b"").get("run_id", "")


def count_leased(pool: Pool, source: Source) -> int:
    """Return how many of a source's batches are in flight: within their lease, or retried.

    Where messages wait and none is in flight, no worker has claimed any for a lease.
    """
    now = round(_time_of(pool) * 1000)
    held = pool.execute("ZCOUNT", f"{prefix_of(source)}:inflight", now, "+inf")
    return int(held + pool.execute("ZCARD", f"{prefix_of(source)}:retrying"))


def _refused(pool: Pool, source: Source, role: Role) -> Sequence[str] | SegmentBufferError:
    try:
        return refused(pool, prefix_of(source), role)
    except SegmentBufferError as error:
        return error


def _fields(info: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in info.decode("utf-8", "replace").splitlines())
    return {name: value for name, _, value in lines if value}


def _time_of(pool: Pool) -> float:
    seconds, microseconds = pool.execute("TIME")
    return int(seconds) + int(microseconds) / 1e6


def _unless_refused(pool: Pool, *command: str) -> Any:
    try:
        return pool.execute(*command)
    except SegmentBufferError:
        return None
