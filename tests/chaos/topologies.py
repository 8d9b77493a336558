"""The topologies: which servers there are, and which faults are done to them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from chaos.faults import (
    Fault,
    broker,
    cluster,
    connections,
    disk,
    endpoint,
    failover,
    rabbitmq,
    redis,
    sentinel,
    workers,
)
from chaos.servers import Clustered, RabbitMQ, Servers, Single, Watched
from chaos.stage import MakeServers

#: Whatever the servers are.
ANY = (*disk.FAULTS, *workers.FAULTS, *endpoint.FAULTS, *redis.FAULTS)


@dataclass(frozen=True)
class Topology:
    """Servers, and what may befall them.

    Attributes:
        servers: Makes them in a folder, with a configuration of each Redis.
        own: The faults that are of this topology, and come first.
        faults: All faults.
        major: The major version of redis-server; None for whichever is found.
    """

    servers: MakeServers
    own: tuple[Fault, ...]
    faults: tuple[Fault, ...]
    major: int | None = None

    @classmethod
    def of(
        cls,
        servers: MakeServers,
        own: tuple[Fault, ...] = (),
        shared: tuple[Fault, ...] = (),
    ) -> Topology:
        """Return one with its own faults, those that it shares with some, and those of all."""
        return cls(servers, own, (*own, *shared, *ANY))


def _standalone(folder, config):
    both = Single(folder, config)
    return Servers(both, both)


def _sentinel(folder, config):
    return Servers(Watched(config), Single(folder / "broker", config))


def _cluster(folder, config):
    return Servers(Clustered(config), Single(folder / "broker", config))


def _rabbitmq(folder, config):
    return Servers(Single(folder, config), RabbitMQ())


STANDALONE = Topology.of(
    _standalone, shared=(*connections.FAULTS, *broker.FAULTS, *failover.SINGLE)
)
TOPOLOGIES = {
    "standalone": STANDALONE,
    "redis6": replace(STANDALONE, major=6),
    "redis7": replace(STANDALONE, major=7),
    "sentinel": Topology.of(_sentinel, (*failover.REPLICATED, *sentinel.FAULTS), broker.FAULTS),
    "cluster": Topology.of(_cluster, (*failover.REPLICATED, *cluster.FAULTS), broker.FAULTS),
    "rabbitmq": Topology.of(_rabbitmq, rabbitmq.FAULTS, (*connections.FAULTS, *failover.SINGLE)),
}
