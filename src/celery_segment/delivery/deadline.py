"""HTTP connections with a total deadline for an exchange.

The timeout of requests applies to each read, and starts again with every byte: an endpoint
that sends one byte at a time would occupy a worker for hours. Here, each operation on the
socket gets the time that is left until the deadline.
"""

from __future__ import annotations

import io
import socket
import time
from http.client import HTTPResponse
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

__all__ = ["DeadlineAdapter"]


class _DeadlineReader(io.RawIOBase):
    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        # An open file keeps the socket open after the connection is closed; a response with
        # "Connection: close" is read after that.
        self._file = sock.makefile("rb", buffering=0)
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        self._sock.settimeout(left)
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


class _DeadlineSocket:
    """The part of a socket's interface that ``http.client.HTTPResponse`` uses."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_DeadlineReader(self._sock, self._deadline))


class _DeadlineConnection(HTTPConnection):
    """An HTTP connection whose timeout applies to a whole exchange, connecting included."""

    timeout: float
    _deadline: float
    #: Whether the deadline of the next request has started. For TLS and for a proxy, urllib3
    #: connects before it makes the request, otherwise within it.
    _just_connected = False

    def connect(self) -> None:
        self._deadline = time.monotonic() + self.timeout
        super().connect()
        self._just_connected = True
        self._set_timeout()

    def _new_conn(self) -> socket.socket:
        """Connect to the host's addresses in turn, each with its share of the time left.

        urllib3 gives each address the whole timeout.
        """
        host, timeout = self._dns_host, self.timeout
        addresses = _addresses(host, self.port)
        for number, address in enumerate(addresses):
            share = (self._deadline - time.monotonic()) / (len(addresses) - number)
            self._dns_host, self.timeout = address, max(share, 0.001)
            try:
                return super()._new_conn()
            except (NewConnectionError, ConnectTimeoutError):
                if number + 1 == len(addresses):
                    raise
            finally:
                self._dns_host, self.timeout = host, timeout
        return super()._new_conn()  # raises the resolver's error

    def request(self, *args: Any, **kwargs: Any) -> None:
        if not self._just_connected:
            self._deadline = time.monotonic() + self.timeout
        if self.sock is not None:
            self._set_timeout()
        super().request(*args, **kwargs)
        self._just_connected = False

    def response_class(  # type: ignore[override]  # http.client only calls it
        self, sock: Any, *args: Any, **kwargs: Any
    ) -> HTTPResponse:
        shim: Any = _DeadlineSocket(sock, self._deadline)
        return HTTPResponse(shim, *args, **kwargs)

    def _set_timeout(self) -> None:
        if self.sock is not None:
            self.sock.settimeout(max(self._deadline - time.monotonic(), 0.001))


def _addresses(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(info[4][0]) for info in found))


class _DeadlineTLSConnection(_DeadlineConnection, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls: Any = _DeadlineConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls: Any = _DeadlineTLSConnection


_POOLS = {"http": _HTTPPool, "https": _HTTPSPool}


class DeadlineAdapter(HTTPAdapter):
    """An adapter for requests sessions whose connections have a total deadline."""

    def init_poolmanager(  # noqa: D102 - HTTPAdapter's
        self, *args: Any, **kwargs: Any
    ) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(  # noqa: D102 - HTTPAdapter's
        self, *args: Any, **kwargs: Any
    ) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager
