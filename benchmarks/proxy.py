"""A TCP proxy in front of a Redis that counts connections, commands and round trips."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import hiredis

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["CountingProxy"]

CHUNK = 1 << 16


class CountingProxy:
    """Counts what clients send to a Redis, during a ``with`` block.

    A round trip is what a client sends before it waits for an answer: one command, or many that
    are sent together.

    Args:
        url: The URL of the Redis.

    Attributes:
        url: The URL of the proxy.
        connections: The number of connections so far.
        commands: The number of commands so far.
        round_trips: The number of round trips so far.
    """

    def __init__(self, url: str) -> None:
        target = urlsplit(url)
        self._target = (target.hostname, target.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}{target.path}"
        self.connections = self.commands = self.round_trips = 0
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._listener, *self._sockets):
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            server = socket.create_connection(self._target)
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets += [client, server]
            self._count(connections=1)
            asked = threading.Event()
            threading.Thread(target=self._ask, args=(client, server, asked), daemon=True).start()
            threading.Thread(target=_pump, args=(server, client, asked), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket, asked: threading.Event) -> None:
        """Send a client's commands on, and count them: they are arrays, as some replies are."""
        reader = hiredis.Reader()
        while data := _received(client):
            reader.feed(data)
            commands = 0
            while reader.gets() is not False:
                commands += 1
            self._count(commands=commands, round_trips=0 if asked.is_set() else 1)
            asked.set()
            server.sendall(data)
        server.close()

    def _count(self, *, connections: int = 0, commands: int = 0, round_trips: int = 0) -> None:
        with self._lock:
            self.connections += connections
            self.commands += commands
            self.round_trips += round_trips


def _pump(server: socket.socket, client: socket.socket, asked: threading.Event) -> None:
    """Send the answers on."""
    while data := _received(server):
        asked.clear()
        client.sendall(data)
    client.close()


def _received(sock: socket.socket) -> bytes:
    try:
        return sock.recv(CHUNK)
    except OSError:  # closed
        return b""
