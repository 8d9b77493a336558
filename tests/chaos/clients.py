"""The producer processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from chaos.servers import Servers
from chaos.settings import PRODUCERS, Load
from support import TESTS, wait_until


@dataclass
class Client:
    """A producer process.

    Attributes:
        name: Its name, which its messages and its books have.
        number: Its place: the process that follows it in a redeploy has the same.
        spills: Whether its calls spill while Redis is away; else they raise.
    """

    name: str
    number: int
    spills: bool
    process: subprocess.Popen
    folder: Path

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    @property
    def publishes(self) -> bool:
        """Whether it has begun, so that it understands the signals."""
        return (self.folder / f"application-{self.name}.book").exists()

    @property
    def log(self) -> str:
        return (self.folder / f"producer-{self.name}.log").read_text()

    def signal(self, number: int) -> None:
        if self.publishes and self.runs:
            self.process.send_signal(number)

    def refusals(self) -> int:
        """Return a number that grows with each call that is refused for want of room."""
        book = self.folder / f"producer-{self.name}-refused.book"
        return book.stat().st_size if book.exists() else 0


class Clients:
    """The producers: the last one spills.

    Args:
        folder: Where their logs and books are.
        servers: The store and the broker.
        conf: Their configuration, but for the addresses of Redis.
        load: What they do.
        messages: How many messages they track in all; 0 until they are stopped.
        notes: Gets what happened that nobody ordered.

    Attributes:
        changes: What the latest redeploy has changed in their configuration.
    """

    def __init__(
        self,
        folder: Path,
        servers: Servers,
        conf: dict,
        load: Load,
        messages: int,
        notes: list[str],
    ) -> None:
        self.changes: dict = {}
        self._folder, self._servers, self._conf, self._notes = folder, servers, conf, notes
        self._load, self._share = load, -(-messages // PRODUCERS)
        self._all: list[Client] = []

    def start(self) -> None:
        for number in range(1, PRODUCERS + 1):
            self._start(number)
        wait_until(self._all_publish, 60, "the producers do not publish")

    @property
    def present(self) -> list[Client]:
        return [client for client in self._all if client.runs]

    @property
    def spilling(self) -> list[Client]:
        return [client for client in self.present if client.spills and client.publishes]

    def replace(self, client: Client) -> Client:
        """Start the process that follows one which has ended."""
        return self._start(client.number)

    def fill(self, clients: list[Client]) -> None:
        """Have producers call with large messages, each until a call of it is refused."""
        for client in clients:
            client.signal(signal.SIGUSR1)

    def stop_filling(self, clients: list[Client]) -> None:
        for client in clients:
            client.signal(signal.SIGUSR2)

    def be_quiet(self) -> None:
        """Have the producers make no calls."""
        for client in self.present:
            client.signal(signal.SIGHUP)

    def go_on(self) -> None:
        """Have the producers make calls again."""
        for client in self.present:
            client.signal(signal.SIGWINCH)

    def stop(self) -> None:
        """End the producers once each has its last call accepted."""
        for client in self.present:
            client.process.terminate()
        for client in self._all:
            if client.process.wait(30):
                self._notes.append(f"producer {client.name} failed: {client.log[-400:]!r}")

    def kill(self) -> None:
        for client in self.present:
            client.process.kill()
            client.process.wait()

    def _all_publish(self):
        return all(client.publishes for client in self._all)

    def _start(self, number):
        before = sum(client.number == number for client in self._all)
        name = f"p{number}-{before + 1}" if before else f"p{number}"
        spills = number == PRODUCERS
        conf = {
            **self._conf,
            "broker_url": self._servers.broker.broker_addresses.producers,
            "broker_transport_options": self._servers.broker.options,
            "segment_redis_url": self._servers.store.store_addresses.producers,
            "segment_on_unavailable": "spill" if spills else "raise",
            **self.changes,
        }
        environ = {**os.environ, "TESTS_CONF": json.dumps(conf), "PYTHONPATH": str(TESTS)}
        arguments = [name, str(self._folder), json.dumps(asdict(self._load))]
        with (self._folder / f"producer-{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "chaos.producer", *arguments, str(self._share)],
                env=environ,
                cwd=self._folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._all.append(Client(name, number, spills, process, self._folder))
        return self._all[-1]
