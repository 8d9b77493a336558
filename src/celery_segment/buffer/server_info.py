"""What the Redis server of the buffer says about itself, and who is at work in it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery_segment.buffer.keys import prefix, prefix_of
from celery_segment.buffer.rights import Role, refused
from celery_segment.buffer.topology.types import Server, Topology
from celery_segment.config import Source
from celery_segment.errors import SegmentBufferError

__all__ = ["ServerInfo", "count_leased", "read_run_id", "read_servers"]

#: What INFO does not contain. Never ``*``: the rest includes passwords.
_CONFIG = ("appendfsync", "save", "min-replicas-to-write")


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A Redis server at one moment.

    Attributes:
        address: Its address.
        topology: Which kind of servers it is one of: see ``Topology.kind``.
        round_trip: Seconds that a command and its reply take.
        ahead: Seconds by which its clock is ahead of this host's.
        info: The fields of INFO, as text; empty where the user may not read it.
        config: Some fields of CONFIG GET, as text; those that cannot be read are absent.
        refused: The commands of the role that the user may not run; the error that says so where
            they could not be asked for.
    """

    address: str
    topology: str
    round_trip: float
    ahead: float
    info: Mapping[str, str]
    config: Mapping[str, str]
    refused: Sequence[str] | SegmentBufferError


def read_servers(topology: Topology, sources: Iterable[Source], role: Role) -> list[ServerInfo]:
    """Read what the servers that have sources say about themselves, in a few short commands.

    Args:
        topology: The servers of the buffer.
        sources: The sources.
        role: What the user is to be allowed.

    Raises:
        BufferUnavailable: Redis is unreachable, or refuses the user.
    """
    found: dict[str, ServerInfo] = {}
    for source in sources:
        server = topology.server(prefix_of(source))
        _time_of(server)  # connects, so that what is measured next is the round trip alone
        if server.address not in found:
            found[server.address] = _read(server, topology.kind, source, role)
    return list(found.values())


def _read(server: Server, kind: str, source: Source, role: Role) -> ServerInfo:
    here, started = time.time(), time.perf_counter()
    there = _time_of(server)
    round_trip = time.perf_counter() - started
    info = _unless_refused(server, "INFO") or b""
    config = {}
    for name in _CONFIG:
        reply = _unless_refused(server, "CONFIG", "GET", name)
        if reply is None:
            break
        if reply:
            config[name] = reply[1].decode("utf-8", "replace")
    return ServerInfo(
        address=server.address,
        topology=kind,
        round_trip=round_trip,
        ahead=there - (here + round_trip / 2),
        info=_fields(info),
        config=config,
        refused=_refused(server, source, role),
    )


def read_run_id(topology: Topology, namespace: str) -> str:
    """Return the run id of the server that has what all sources share; "" if not known.

    It is the same by whichever name a server is reached.

    Raises:
        BufferUnavailable: Redis is unreachable, or refuses the user.
    """
    server = topology.server(prefix("", namespace))
    _time_of(server)
    return _fields(_unless_refused(server, "INFO", "server") or b"").get("run_id", "")


def count_leased(topology: Topology, source: Source) -> int:
    """Return how many of a source's batches are in flight: within their lease, or retried.

    Where messages wait and none is in flight, no worker has claimed any for a lease.
    """
    server = topology.server(prefix_of(source))
    now = round(_time_of(server) * 1000)
    held = server.execute("ZCOUNT", f"{prefix_of(source)}:inflight", now, "+inf")
    return int(held + server.execute("ZCARD", f"{prefix_of(source)}:retrying"))


def _refused(server: Server, source: Source, role: Role) -> Sequence[str] | SegmentBufferError:
    try:
        return refused(server, prefix_of(source), role)
    except SegmentBufferError as error:
        return error


def _fields(info: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in info.decode("utf-8", "replace").splitlines())
    return {name: value for name, _, value in lines if value}


def _time_of(server: Server) -> float:
    seconds, microseconds = server.execute("TIME")
    return int(seconds) + int(microseconds) / 1e6


def _unless_refused(server: Server, *command: str) -> Any:
    try:
        return server.execute(*command)
    except SegmentBufferError:
        return None
