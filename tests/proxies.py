"""Proxies of this machine: SOCKS 4, 4a and 5, and HTTP's CONNECT."""

from __future__ import annotations

import base64
import socket
import socketserver
import threading
import time
from contextlib import contextmanager, suppress

USER, PASSWORD = "user", "passw0rd"
_LOGIN = base64.b64encode(f"{USER}:{PASSWORD}".encode())


class Refused(Exception):  # noqa: N818 - the connection is
    """The client is refused; the answer is sent."""


class _Handler(socketserver.StreamRequestHandler):
    """One connection of a client, which speaks the protocol that its first byte tells."""

    def handle(self):
        with suppress(Refused, OSError):
            host, port, granted = self._asked(self._read(1))
            self.server.asked.append(host)
            with socket.create_connection(("127.0.0.1", port)) as upstream:
                self.wfile.write(granted)
                _pass_on(self.request, upstream)

    def _asked(self, first):
        """Return the host and port that the client asks for, and the answer that grants it."""
        if first == b"\5":
            return self._socks5()
        if first == b"\4":
            return self._socks4()
        lines = [first + self.rfile.readline()]
        while lines[-1].strip():
            lines.append(self.rfile.readline())
        if not any(_LOGIN in line for line in lines):
            self._refuse(b"HTTP/1.1 407 Login\r\nConnection: close\r\n\r\n")
        host, _, port = lines[0].split()[1].decode().rpartition(":")
        return host, int(port), b"HTTP/1.1 200 OK\r\n\r\n"

    def _socks5(self):
        if 2 not in self._read(self._read(1)[0]):
            self._refuse(b"\5\xff")
        self._answer(b"\5\2")
        self._read(1)
        login = [self._read(self._read(1)[0]).decode() for _ in range(2)]
        if login != [USER, PASSWORD]:
            self._refuse(b"\1\1")
        self._answer(b"\1\0")
        if self.server.refuses:
            self._refuse(b"\5" + self.server.refuses + b"\0\1" + bytes(6))
        kind = self._read(4)[3]
        match kind:
            case 1:
                host = self._address()
            case 3:
                host = self._read(self._read(1)[0]).decode()
            case _:
                host = socket.inet_ntop(socket.AF_INET6, self._read(16))
        return host, self._port(), b"\5\0\0\1" + bytes(6)

    def _socks4(self):
        self._read(1)
        port, host = self._port(), self._address()
        user = self._until_zero()
        if host.startswith("0.0.0."):
            host = self._until_zero()
        if self.server.refuses or user != USER:
            self._refuse(b"\0" + (self.server.refuses or b"\x5d") + bytes(6))
        return host, port, b"\0\x5a" + bytes(6)

    def _answer(self, data):
        time.sleep(self.server.delay)
        self.wfile.write(data)

    def _refuse(self, data):
        self._answer(data)
        raise Refused

    def _read(self, count):
        data = self.rfile.read(count)
        if len(data) < count:
            raise Refused
        return data

    def _address(self):
        return socket.inet_ntoa(self._read(4))

    def _port(self):
        return int.from_bytes(self._read(2), "big")

    def _until_zero(self):
        return b"".join(iter(lambda: self._read(1), b"\0")).decode()


def _pass_on(client, upstream):
    """Pass bytes on in both directions, until both ends have closed."""

    def copy(source, target):
        with suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    back = threading.Thread(target=copy, args=(upstream, client))
    back.start()
    copy(client, upstream)
    back.join()


class Proxy(socketserver.ThreadingTCPServer):
    """A proxy that asks for a user and password; each host is this machine.

    Attributes:
        asked: The hosts that it was asked for.
        delay: Seconds before each of its answers.
        refuses: The code with which it refuses each connection of SOCKS.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, delay, refuses):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked, self.delay, self.refuses = [], delay, refuses

    def url(self, scheme, password=PASSWORD):
        return f"{scheme}://{USER}:{password}@127.0.0.1:{self.server_address[1]}"


@contextmanager
def proxy(delay=0.0, refuses=b""):
    with Proxy(delay, refuses) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
