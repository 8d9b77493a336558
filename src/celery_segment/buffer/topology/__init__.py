"""The servers of the buffer: which of them has a key now, and how commands get there.

Nothing outside of this folder knows whether the buffer is stored in one Redis, behind
Sentinels, or in a cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery_segment.aio.waits import BLOCKING, Waits
from celery_segment.buffer.topology import cluster, sentinel
from celery_segment.buffer.topology.routing import Limits
from celery_segment.buffer.topology.standalone import Standalone
from celery_segment.buffer.topology.types import Server, Topology

__all__ = ["Server", "Topology", "connect"]


def connect(
    url: str,
    timeout: float,
    options: Mapping[str, Any] | None = None,
    *,
    max_connections: int = 50,
    rest: float = 0.0,
    waits: Waits = BLOCKING,
) -> Topology:
    """Return the servers behind a URL; no connection is opened before the first command.

    Args:
        url: ``segment_redis_url``, or the broker's.
        timeout: Seconds that one operation may take, connecting included.
        options: Further arguments of redis-py's connections; ``sentinel_kwargs``, those of the
            connections to Sentinels.
        max_connections: Maximum number of connections to one server.
        rest: Seconds between two tries while a server does not answer in time; see ``Pool``.
        waits: How those wait who use the connections.

    Raises:
        ConfigurationError: The URL is not understood.
    """
    limits = Limits(timeout, max_connections, rest, waits)
    scheme = url.partition("://")[0]
    if scheme in sentinel.SCHEMES:
        return sentinel.connect(url, options or {}, limits)
    if scheme in cluster.SCHEMES:
        return cluster.connect(url, options or {}, limits)
    return Standalone(url, options or {}, limits)
