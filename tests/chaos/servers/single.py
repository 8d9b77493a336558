"""One Redis behind addresses that stay: the store, the broker, or both."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any, ClassVar

from celery_segment.testing import EmbeddedRedis
from chaos.proxy import Proxy
from chaos.servers.base import Addresses, rewrite_files
from chaos.settings import HELD, PUBLISHING
from support import free_port, wait_until

#: Seconds that each step of a failover may take.
STEP = 10.0
#: Milliseconds for which a primary that is left keeps writes waiting: until it is stopped.
PAUSED = 600_000


class Single:
    """The servers, of which one is the primary at a time, and the proxies to it.

    Attributes:
        primary: The present one.
        client: A client of it.
        demoted: The one before, after a failover, until it is stopped.
        moved_at: When the addresses were moved last, by ``time.monotonic()``.
        producers: The proxy to the buffer that the producers have.
        workers: That of the workers.
        publishers: The proxy to the broker that the producers have.
        consumers: That of every other worker.
        others: That of the other workers, and to the buffer that of the stage itself.
    """

    conf: ClassVar[dict[str, Any]] = {}
    options: ClassVar[dict[str, Any]] = {"socket_timeout": PUBLISHING}
    held = HELD

    def __init__(self, folder: Path, config: dict[str, str | int]) -> None:
        self._folder, self._config = folder, config
        self._count = 0
        self.primary = self._new()
        self.demoted: EmbeddedRedis | None = None
        self.moved_at = 0.0
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            stack.callback(self._stop)
            self.primary.start()
            self.client = self.primary.client()
            self._links = [stack.enter_context(Proxy(self.primary.port)) for _ in range(5)]
            self.producers, self.workers, self.publishers, self.consumers, self.others = self._links
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    @property
    def store_addresses(self) -> Addresses:
        return Addresses(self.producers.url, [self.workers.url], self.others.url)

    @property
    def producers_links(self) -> list[Proxy]:
        return [self.producers]

    @property
    def workers_links(self) -> list[Proxy]:
        return [self.workers]

    @property
    def broker_addresses(self) -> Addresses:
        workers = [self.others.url, self.consumers.url]
        return Addresses(self.publishers.url, workers, self.others.url)

    @property
    def publishers_links(self) -> list[Proxy]:
        return [self.publishers]

    def heal(self) -> None:
        for link in self._links:
            link.heal()

    def rewrite_files(self) -> None:
        rewrite_files([self.client])

    def tasks_left(self) -> set[str]:
        """Return the ids of the tasks that are queued, or with a worker."""
        queued = [json.loads(message) for message in self.client.lrange("celery", 0, -1)]
        unacked = [json.loads(entry)[0] for entry in self.client.hvals("unacked")]
        return {message["headers"]["id"] for message in queued + unacked}

    def fail_over(self, manner: str) -> bool:
        """Promote a replica that has everything, and move all addresses to it.

        The buffer's connections to the old primary stay. Those to the broker are closed before,
        as Sentinel and the clouds do: kombu would keep them, and a worker ends by READONLY.

        Args:
            manner: What becomes of the old primary: it is the new one's replica ("demoted"),
                a replica that reaches no primary ("isolated"), or a primary that has every
                write wait ("left").

        Returns:
            Whether it succeeded; if not, nothing has changed.
        """
        old, new = self.primary, self._new()
        new.start()
        with contextlib.closing(new.client()) as client:
            _follow(client, old.port, self.client)
            for link in (self.publishers, self.consumers, self.others):
                link.close()
            promoted = self._leave(client) if manner == "left" else self._hand_over(new.port)
            if promoted and manner == "isolated":
                self.client.replicaof("127.0.0.1", free_port())
        if promoted:
            self.client.close()
            self.primary, self.client, self.demoted = new, new.client(), old
        else:
            new.kill()
        for link in self._links:
            link.open(self.primary.port)
        self.moved_at = time.monotonic()
        return promoted

    def stop_demoted(self) -> None:
        if self.demoted is not None:
            self.demoted.kill()
            self.demoted = None

    def _hand_over(self, port: int) -> bool:
        """Have the primary hand over to its replica, by Redis' own planned failover."""
        arguments = ("TO", "127.0.0.1", port, "TIMEOUT", int(STEP * 1000))
        self.client.execute_command("FAILOVER", *arguments)

        def ended():
            found = self.client.info("replication")
            return found if found["master_failover_state"] == "no-failover" else None

        return wait_until(ended, 2 * STEP)["role"] == "slave"

    def _leave(self, client) -> bool:
        """Promote a replica once it has all that the primary, which takes no more, has taken."""
        self.client.execute_command("CLIENT", "PAUSE", PAUSED, "WRITE")
        taken = self.client.info("replication")["master_repl_offset"]
        wait_until(lambda: client.info("replication")["slave_repl_offset"] == taken, STEP)
        client.replicaof("NO", "ONE")
        return True

    def _new(self) -> EmbeddedRedis:
        self._count += 1
        return EmbeddedRedis(self._folder / f"redis-{self._count}", config=self._config)

    def _stop(self) -> None:
        for server in (self.primary, self.demoted):
            if server is not None:
                server.stop()


def _follow(client, port: int, primary) -> None:
    """Make a server a replica that has everything, on its own disk as well."""
    client.replicaof("127.0.0.1", port)

    def follows():
        found, disk = client.info("replication"), client.info("persistence")
        connected = primary.info("replication").get("slave0", {}).get("state") == "online"
        written = not (disk["aof_rewrite_in_progress"] or disk["aof_rewrite_scheduled"])
        return connected and found["master_link_status"] == "up" and written

    wait_until(follows, STEP)
