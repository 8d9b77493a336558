"""A stable TCP address in front of servers of this machine, as a balancer gives it."""

from __future__ import annotations

import socket
import sys
import threading
from contextlib import suppress


class Front:
    """Passes connections on to a port, which may change, and can forget those that it has.

    Attributes:
        port: Where it listens.
        target: The port to which further connections go.
        accepted: How many connections it has accepted.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.accepted = 0
        self._forgotten = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._sockets = []
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self):
        self._threads[0].start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()

    def forget(self) -> None:
        """Swallow whatever comes on the present connections; tell neither end."""
        self._forgotten = self.accepted

    def fall_silent(self) -> None:
        """Swallow whatever comes on any connection, further ones too, until it is heard again."""
        self._forgotten = sys.maxsize

    def be_heard(self) -> None:
        """Pass on what comes on further connections; the present ones stay forgotten."""
        self.forget()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                upstream = socket.create_connection(("127.0.0.1", self.target))
            except OSError:  # there is no server
                client.close()
                continue
            self._sockets += [client, upstream]
            for ends in ((client, upstream), (upstream, client)):
                thread = threading.Thread(target=self._pass_on, args=(self.accepted, *ends))
                self._threads.append(thread)
                thread.start()

    def _pass_on(self, number, source, target):
        with suppress(OSError):
            while data := source.recv(65_536):
                if number > self._forgotten:
                    target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)
