"""A Redis Cluster, in which each server has some of the slots."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from celery_segment.buffer.address import Address, address_of
from celery_segment.buffer.topology.asking import ask
from celery_segment.buffer.topology.routing import Limits, Range, Router
from celery_segment.errors import BufferUnavailable, ConfigurationError
from celery_segment.text import one_line

__all__ = ["SCHEMES", "connect"]

SCHEMES = ("redis+cluster", "rediss+cluster")
PORT = 6379


def connect(url: str, options: Mapping[str, Any], limits: Limits) -> Router:
    """Return the servers of ``redis+cluster://h1:6379,h2:6379``.

    Args:
        url: With some of the servers; they know the others.
        options: Further arguments of the connections.
        limits: The limits of the connections.

    Raises:
        ConfigurationError: The URL is not understood.
    """
    scheme, _, rest = url.partition("+cluster://")
    netloc, slash, path = rest.partition("/")
    if not slash:
        netloc, mark, path = rest.partition("?")
        path = f"{mark}{path}"
    login, _, hosts = netloc.rpartition("@")
    if path.partition("?")[0].strip("/") not in {"", "0"}:
        raise ConfigurationError("segment_redis_url: a Redis Cluster has the database 0 alone")
    query = path.partition("?")[2]
    address = f"{login}@localhost" if login else "localhost"
    server = address_of(f"{scheme}://{address}?{query}", options, limits.waits)
    seeds = [server.at(*_host_and_port(each)) for each in hosts.split(",")]
    where = ", ".join(map(str, seeds))
    return Router("Cluster", where, _Nodes(server, seeds), _slot_of, server, limits)


def _host_and_port(text: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text.strip()}")
        port = parts.port or PORT
    except ValueError as error:
        raise ConfigurationError(f"segment_redis_url is not understood: {error}") from None
    return parts.hostname or "localhost", port


def _slot_of(key: str) -> int:
    from redis.crc import key_slot

    return int(key_slot(key.encode()))


class _Nodes:
    """Asks the servers which of them has which slots, each time another one first."""

    def __init__(self, server: Address, seeds: Sequence[Address]) -> None:
        self._server, self._seeds = server, tuple(seeds)
        self._known: tuple[Address, ...] = ()

    def __call__(self, seconds: float, first: str = "") -> list[Range]:
        until, problem = time.monotonic() + seconds, ""
        nodes = (*self._known, *(seed for seed in self._seeds if seed not in self._known))
        for node in sorted(nodes, key=lambda node: str(node) != first):
            try:
                answer = ask(node, seconds / 2, "CLUSTER", "SLOTS")
            except OSError as error:
                problem = f"{node}: {one_line(str(error))[:160]}"
            else:
                if answer:
                    return self._read(answer, node)
                problem = f"{node} knows no slots"
            self._known = (*(each for each in self._known if each != node), node)
            if time.monotonic() > until:
                break
        raise BufferUnavailable(
            f"no server of the cluster says where the slots are ({problem})",
            hint="check the servers, and segment_redis_url",
        )

    def _read(self, answer: Any, asked: Address) -> list[Range]:
        """Read an answer to CLUSTER SLOTS: ranges, each with a primary and its replicas."""
        # A server that does not know its own name leaves it out.
        found = [
            (
                first,
                last,
                [(host.decode() if host else asked.host, port) for host, port, *_ in all_],
            )
            for first, last, *all_ in answer
        ]
        others = {self._server.at(*each) for _, _, servers in found for each in servers} - {asked}
        self._known = (*others, asked)
        return [Range(first, last, *servers[0]) for first, last, servers in found]
