"""A cluster of six servers: three primaries, each with a replica."""

from __future__ import annotations

from random import Random

from celery_segment.testing import EmbeddedRedis
from chaos.servers.replicated import SAFE, Harm, Replicated
from topologies import Cluster

#: What the keys of the buffer's source have in common.
TAG = "{segment:default}"
#: Milliseconds after which a server that does not answer is down: replicas wait to be asked, but
#: the servers vote for one again only after twice as long.
TIMEOUT = 2_000


class Clustered(Replicated):
    """The store in a cluster."""

    def __init__(self, config) -> None:
        config = {**config, **SAFE, "cluster-replica-no-failover": True}
        super().__init__(Cluster(primaries=3, replicas=1, timeout=TIMEOUT, config=config))

    @property
    def primary(self):
        return self.servers.primary_of(TAG, but=self._away)

    def fail_over(self, harm: Harm):
        old = self.primary
        harm.do(old)
        self.servers.replace(old)
        harm.undo(old)  # there is no other replica, without which the new one takes no writes
        self._await_step(old)
        return lambda: None

    def hand_over(self) -> None:
        old = self.primary
        self.servers.replace(old, by="")
        self._await_step(old)

    def move_slot(self, chance: Random) -> None:
        """Move the buffer's slot to another primary."""
        self.servers.move(TAG, chance.choice(self._others()))
        self._note_failover()

    def freeze_another(self, chance: Random) -> EmbeddedRedis:
        """Freeze a primary that has nothing of the buffer."""
        server = chance.choice(self._others())
        self._away = [server.port]
        server.pause()
        return server

    def resume(self, server: EmbeddedRedis) -> None:
        server.resume()
        self._away = []

    def _others(self):
        primary = self.primary
        return [server for server in self.servers.primaries() if server is not primary]

    def _await_step(self, old):
        self.servers.await_step(old)
        self._note_failover()
