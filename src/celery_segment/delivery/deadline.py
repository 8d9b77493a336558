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
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

__all__ = ["DeadlineAdapter", "DeadlineConnection", "DeadlineTLSConnection", "ProxyRefusedError"]


class ProxyRefusedError(HTTPError):
    """A SOCKS proxy refuses the connection, or what answers is none."""


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


class DeadlineConnection(HTTPConnection):
    """An HTTP connection whose timeout applies to a whole exchange, connecting included."""

    timeout: float
    _deadline: float
    #: Whether the deadline of the next request has started. For TLS and for a proxy, urllib3
    #: connects before it makes the request, otherwise within it.
    _just_connected = False

    def connect(self) -> None:
        """Connect, and start the deadline of the request that follows."""
        self._deadline = time.monotonic() + self.timeout
        super().connect()
        self._just_connected = True
        self._set_timeout()

    def _new_conn(self) -> socket.socket:
        """Connect to the host's addresses in turn, each with its share of the time left.

        urllib3 gives each address the whole timeout.
        """
        host, port = self._peer
        addresses = _addresses(host, port) or [host]  # whose connection raises the error
        for untried, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            try:
                sock = self._connect_to(address, self._left / untried)
                break
            except (NewConnectionError, ConnectTimeoutError):
                if untried == 1:
                    raise
        sock.settimeout(self._left)  # for TLS
        return sock

    @property
    def _peer(self) -> tuple[str, int]:
        """The host and port to which the socket is connected."""
        return self._dns_host, self.port

    def _connect_to(self, address: str, seconds: float) -> socket.socket:
        """Return a socket that is connected by way of an address of the peer."""
        host, timeout = self._dns_host, self.timeout
        self._dns_host, self.timeout = address, seconds
        try:
            return super()._new_conn()
        finally:
            self._dns_host, self.timeout = host, timeout

    @property
    def _left(self) -> float:
        """Seconds until the deadline."""
        return max(self._deadline - time.monotonic(), 0.001)

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Send a request, whose deadline starts now unless it has."""
        if not self._just_connected:
            self._deadline = time.monotonic() + self.timeout
        if self.sock is not None:
            self._set_timeout()
        super().request(*args, **kwargs)
        self._just_connected = False

    def response_class(  # type: ignore[override]  # http.client only calls it
        self, sock: Any, *args: Any, **kwargs: Any
    ) -> HTTPResponse:
        """Return a response that is read until the deadline at the latest."""
        shim: Any = _DeadlineSocket(sock, self._deadline)
        return HTTPResponse(shim, *args, **kwargs)

    def _set_timeout(self) -> None:
        if self.sock is not None:
            self.sock.settimeout(self._left)


def _addresses(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(info[4][0]) for info in found))


class DeadlineTLSConnection(DeadlineConnection, HTTPSConnection):
    """The same with TLS."""


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls: Any = DeadlineConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls: Any = DeadlineTLSConnection


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
        if "_socks_options" in manager.connection_pool_kw:
            from celery_segment.delivery.socks_proxy import POOLS  # needs PySocks

            manager.pool_classes_by_scheme = POOLS
        else:
            manager.pool_classes_by_scheme = _POOLS
        return manager
