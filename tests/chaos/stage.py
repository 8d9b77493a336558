"""All that faults are done to: Redis, the endpoint, workers, producers and their disk."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import redis
from kombu import pools

from celery_segment import Analytics
from celery_segment.errors import BufferFull, BufferUnavailable, SegmentBufferError
from celery_segment.producer.spill import Spill
from celery_segment.testing import EmbeddedRedis, Reply, SegmentServer
from chaos.clients import Clients
from chaos.control import Control
from chaos.crew import Crew
from chaos.poison import Poison
from chaos.servers import Servers
from chaos.settings import CONF, DISK, Load
from support import WRITE_KEY, buffer_of, new_app

#: Makes the servers in a folder, with a configuration of each Redis.
MakeServers = Callable[[Path, Mapping[str, Any]], Servers]


class Stage:
    """Everything that runs.

    Attributes:
        load: What the producers do, until they are stopped or have tracked ``messages``.
        store: The buffer's Redis. It syncs its append-only file before each reply, and evicts
            nothing.
        broker: The broker, which may be the same.
        server: The endpoint.
        reply: What it replies to each batch; None to accept it.
        control: How slow the machine is.
        crew: The workers.
        clients: The producers.
        disk: The folder to which calls spill, a file system of its own; None where none may
            be mounted: then the file has a bound.
        poison: The messages that the endpoint refuses, by their ids.
        notes: What happened that nobody ordered.
        redis_is_away: Whether a fault has Redis down or frozen.
        endpoint_fails: Whether a fault has the endpoint failing.
    """

    def __init__(self, folder: Path, load: Load, servers: MakeServers, messages: int = 0) -> None:
        self.folder = folder
        self.load = load
        config = {"appendfsync": "always", "maxmemory": f"{load.memory}mb"}
        if load.memory:
            # Redis 6.2 takes 10 MB more while it rewrites its file: the calm is for that.
            config["auto-aof-rewrite-percentage"] = 0
        self._servers = servers(folder, config)
        self.store, self.broker = self._servers
        self.server = SegmentServer(record="ids", in_flight_grace=0.25, write_keys=[WRITE_KEY])
        self.control = Control()
        self.reply: Reply | None = None
        self.disk: Path | None = None
        self.poison: dict[str, Poison] = {}
        self.notes: list[str] = []
        self.redis_is_away = False
        self.endpoint_fails = False
        self._messages = messages
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.control)
            stack.enter_context(self._servers.running())
            stack.enter_context(self.server)
            self.server.rule(self._answer)
            self.disk = stack.enter_context(_small_disk(self.folder / "disk"))
            conf = self._conf()
            self._spill = Spill(conf["segment_spill_path"], DISK)
            own = {
                "broker_url": self.broker.broker_addresses.stage,
                "segment_redis_url": self.store.store_addresses.stage,
                "segment_on_unavailable": "raise",
            }
            self.app = new_app({**conf, **own})
            conf |= self.store.conf
            stack.callback(self._close_app)
            self.buffer = buffer_of(self.app)
            self.analytics = Analytics(app=self.app)
            self.crew = Crew(self.folder, self._servers, conf, self.notes)
            self.clients = Clients(
                self.folder, self._servers, conf, self.load, self._messages, self.notes
            )
            stack.callback(self._kill_all)
            self.crew.start()
            self.clients.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    # ------------------------------------------------------------ the endpoint

    def poison_a_batch(self, status: int) -> None:
        """Track a message that the endpoint refuses, whatever else it does, with a status."""
        name = f"poison-{len(self.poison) + 1}"
        self.poison[name] = Poison(status, time.monotonic())
        try:
            self.analytics.track("user", "Poison", message_id=name)
        except (BufferFull, BufferUnavailable) as error:
            if not error.unknown:
                del self.poison[name]
            raise

    def _answer(self, request) -> Reply | None:
        # As something in front of the endpoint would, which answers before it.
        found = [self.poison[i] for i in request.message_ids if i in self.poison]
        return Reply.status(found[0].status) if found else self.reply

    def dead_ids(self) -> list[str]:
        """Return the messageIds of the dead letters."""
        letters = self.analytics.dead_letters
        return [m["messageId"] for letter in letters for m in letters.messages(letter.id)]

    def poison_left(self, snapshot) -> int:
        """Return how many poisonous messages are not dead yet."""
        return len(self.poison) - snapshot.dead.messages

    # ------------------------------------------------------------ Redis

    @property
    def redis(self) -> EmbeddedRedis:
        return self.store.primary

    @property
    def client(self) -> redis.Redis:
        return self.store.client

    @property
    def forgotten(self) -> int:
        """How many connections to the buffer the proxies have forgotten."""
        links = (*self.store.producers_links, *self.store.workers_links)
        return sum(link.forgotten for link in links)

    def heal(self) -> None:
        """Have the proxies harm nothing any more."""
        self.store.heal()
        self.broker.heal()

    @property
    def spilled(self) -> int:
        """How many messages wait on the disk."""
        return self._spill.waiting("default")

    def stray_keys(self) -> list[bytes]:
        """Return keys of batches that should be gone: of those that neither wait nor are dead."""
        known = {
            batch
            for state in ("ready", "inflight", "retrying", "dead")
            for batch in self.client.zrange(f"{{segment:default}}:{state}", 0, -1)
        }
        keys = [
            *self.client.scan_iter(r"{segment:*}:batch:*"),
            *self.client.scan_iter(r"{segment:*}:meta:*"),
        ]
        return [key for key in keys if key.rpartition(b":")[2] not in known]

    def snapshot(self):
        """Return the buffer's figures, or None while Redis is unreachable."""
        if self.redis_is_away:
            return None
        try:
            return self.buffer.admin.snapshot()
        except SegmentBufferError:
            return None

    # ------------------------------------------------------------ ends

    def is_done(self, snapshot) -> bool:
        """Return whether nothing waits any more but poison that is still retried."""
        left = self.poison_left(snapshot)
        retried = sum(poison.is_retried for poison in self.poison.values())
        return left <= retried and snapshot.waiting == left and not self.spilled

    def _conf(self) -> dict:
        folder = self.disk or self.folder
        return {
            **CONF,
            "segment_max_batch_messages": self.load.batch,
            "segment_host": self.server.url,
            # The workers have it as well: they give back what the producers spilled.
            "segment_on_unavailable": "spill",
            "segment_spill_path": str(folder / "spill"),
            # A disk of its own is full before.
            "segment_max_spill_bytes": 10 * DISK if self.disk else DISK,
        }

    def _kill_all(self) -> None:
        self.crew.kill()
        self.clients.kill()

    def _close_app(self) -> None:
        self.app.close()
        pools.reset()


def fill(path: Path, size: float) -> None:
    """Make a file as large as asked, or as its disk has room for."""
    with path.open("ab", buffering=0) as stream, contextlib.suppress(OSError):
        while stream.tell() < size:
            stream.write(b"x" * 500)


@contextlib.contextmanager
def _small_disk(folder: Path):
    """Mount a file system of ``DISK`` bytes on a folder; yield None where that is not allowed."""
    folder.mkdir()
    mount = ["/bin/mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["/bin/umount", "-l", str(folder)], check=True)
