"""A primary and two replicas, watched by three Sentinels."""

from __future__ import annotations

from celery_segment.testing import EmbeddedRedis
from chaos.servers.replicated import SAFE, Harm, Replicated
from support import wait_until
from topologies import Sentinels, command

#: Milliseconds after which the Sentinels replace a primary without being asked to: later than
#: any fault lasts.
NEVER = 600_000
#: Milliseconds for which a primary that is replaced keeps writes waiting, at the most.
PAUSED = 60_000


class Watched(Replicated):
    """The store behind Sentinels.

    Attributes:
        sentinel_is_away: Whether the first of them is killed at present.
    """

    def __init__(self, config) -> None:
        servers = Sentinels(count=3, replicas=2, down_after=NEVER, config={**config, **SAFE})
        super().__init__(servers)
        self.sentinel_is_away = False
        # A Sentinel that was away, or heard of no failover yet, takes another one for it.
        self._primary: EmbeddedRedis | None = None

    def __enter__(self):
        super().__enter__()
        self._primary = self.servers.primary
        return self

    @property
    def primary(self):
        return self._primary

    def fail_over(self, harm: Harm):
        old = self.primary
        self._away = [old.port]
        harm.do(old)
        self._replace()

        def settle():
            harm.undo(old)
            self._demote(old)
            self._away = []

        return settle

    def hand_over(self) -> None:
        old = self.primary
        # Sentinels do not coordinate it: until they look at the old primary again, it would take
        # writes, and the other replica confirm them.
        command(old.port, "CLIENT", "PAUSE", PAUSED, "WRITE")
        self._replace()
        self._demote(old)
        command(old.port, "CLIENT", "UNPAUSE")

    def _replace(self) -> None:
        self._primary = self.servers.replace(self._primary)
        wait_until(self._has_replica)  # the other one; without it, it takes no writes
        self._note_failover()

    def _demote(self, server) -> None:
        """Make a server a replica; the primary may be frozen, and is not waited for."""
        command(server.port, "REPLICAOF", "127.0.0.1", self.primary.port)

    def kill_sentinel(self) -> None:
        """Kill the Sentinel that all processes ask first."""
        self.sentinel_is_away = True
        self.servers.kill_sentinel(self.servers.ports[0])

    def start_sentinel(self) -> None:
        self.servers.start_sentinel(self.servers.ports[0])
        self.sentinel_is_away = False

    def _has_replica(self) -> bool:
        found = self.client.info("replication")
        return any(isinstance(each, dict) and each["state"] == "online" for each in found.values())
