"""Several servers, of which replicas have what the primary has: the store."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import redis

from celery_segment.testing import EmbeddedRedis
from chaos.proxy import Proxy
from chaos.servers.base import Addresses, rewrite_files

#: What the configuration of each server has beside that of the stage: all that the guide has for
#: losing nothing, and an append-only file, since a primary may be started again.
SAFE: dict[str, str | int | bool] = {"appendonly": True, "min-replicas-to-write": 1}


class Harm(NamedTuple):
    """What befalls a primary, and what ends it."""

    do: Callable[[EmbeddedRedis], None]
    undo: Callable[[EmbeddedRedis], None]


KILLED = Harm(EmbeddedRedis.kill, EmbeddedRedis.start)
FROZEN = Harm(EmbeddedRedis.pause, EmbeddedRedis.resume)


class Replicated:
    """A store of which another server takes the primary's place.

    Args:
        servers: ``topologies.Sentinels`` or ``topologies.Cluster``, not yet started.

    Attributes:
        moved_at: When the last failover was complete, by ``time.monotonic()``.
    """

    conf: ClassVar[dict[str, Any]] = {"segment_wait_replicas": 1}
    producers_links: tuple[Proxy, ...] = ()
    workers_links: tuple[Proxy, ...] = ()

    def __init__(self, servers: Any) -> None:
        self.servers = servers
        self.moved_at = 0.0
        self._away: list[int] = []  # the ports of servers that a fault keeps away
        self._clients: dict[int, redis.Redis] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.servers)
            self._clients = {
                port: stack.enter_context(contextlib.closing(server.client()))
                for port, server in self.servers.servers.items()
            }
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    @property
    def store_addresses(self) -> Addresses:
        url = self.servers.url
        return Addresses(url, [url], url)

    @property
    def primary(self) -> EmbeddedRedis:
        raise NotImplementedError

    @property
    def client(self) -> redis.Redis:
        return self._clients[self.primary.port]

    @property
    def is_whole(self) -> bool:
        """Whether each server is there, and has what its primary has."""
        return not self._away and all(
            info["role"] == "master" or info["master_link_status"] == "up"
            for info in (client.info("replication") for client in self._clients.values())
        )

    def fail_over(self, harm: Harm) -> Callable[[], None]:
        """Harm the primary and have a replica take its place; wait until calls are well again.

        Returns:
            What is to be done so that all servers are there again.
        """
        raise NotImplementedError

    def hand_over(self) -> None:
        """Have a replica take the primary's place, as an operator does; wait as above."""
        raise NotImplementedError

    def heal(self) -> None:
        """Do nothing: there are no proxies."""

    def rewrite_files(self) -> None:
        rewrite_files(self._clients.values())

    def _note_failover(self) -> None:
        self.moved_at = time.monotonic()
