"""Connections through a SOCKS proxy, with the deadline of all others.

PySocks, an optional dependency, speaks to the proxy.
"""

from __future__ import annotations

import socket
import time
from typing import Any

import socks
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from celery_segment.delivery.deadline import (
    DeadlineConnection,
    DeadlineTLSConnection,
    ProxyRefusedError,
)

__all__ = ["POOLS"]

#: The port of a proxy whose URL has none.
PORT = 1080
#: What a proxy answers that would answer the same the next time: the rules forbid it, or it
#: cannot do this; with SOCKS 4, the user is not known.
_REFUSED: dict[type[OSError], tuple[str, ...]] = {
    socks.SOCKS5Error: ("0x02", "0x07", "0x08"),
    socks.SOCKS4Error: ("0x5c", "0x5d"),
}
#: How PySocks says that what answers is not a SOCKS proxy.
_NOT_SOCKS = "invalid data"


class _Socket(socks.socksocket):
    """A socket of PySocks, whose timeout applies to each read of the proxy's answers."""

    deadline: float | None = None

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        if self.deadline is not None:
            left = self.deadline - time.monotonic()
            socket.socket.settimeout(self, max(left, 0.001))
        return int(super().recv_into(*args, **kwargs))


class _Connection(DeadlineConnection):
    def __init__(self, *args: Any, _socks_options: dict[str, Any], **kwargs: Any) -> None:
        self._options = _socks_options
        super().__init__(*args, **kwargs)

    @property
    def _peer(self) -> tuple[str, int]:
        return self._options["proxy_host"], self._options["proxy_port"] or PORT

    def _connect_to(self, address: str, seconds: float) -> socket.socket:
        options = self._options
        sock = _Socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        sock.set_proxy(
            options["socks_version"],
            address,
            self._peer[1],
            rdns=options["rdns"],
            username=options["username"],
            password=options["password"],
        )
        for option in self.socket_options or ():
            sock.setsockopt(*option)
        sock.settimeout(seconds)
        sock.deadline = time.monotonic() + seconds
        try:
            sock.connect((self.host, self.port))
        except OSError as error:
            sock.close()
            raise self._translated(error) from None
        except BaseException:
            sock.close()
            raise
        sock.deadline = None
        return sock

    def _translated(self, error: OSError) -> HTTPError:
        """Return the error of urllib3 that stands for one of PySocks."""
        # PySocks wraps its own errors once more, as those of the socket.
        while (inner := getattr(error, "socket_err", None)) is not None:
            error = inner
        if isinstance(error, TimeoutError):
            return ConnectTimeoutError(self, "the proxy did not answer in time")
        codes = _REFUSED.get(type(error), ())
        if isinstance(error, socks.SOCKS5AuthError) or str(error).startswith(codes):
            return ProxyRefusedError(str(error))
        if _NOT_SOCKS in str(error):
            return ProxyRefusedError("it does not speak this version of SOCKS")
        return NewConnectionError(self, str(error))


class _TLSConnection(_Connection, DeadlineTLSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls: Any = _Connection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls: Any = _TLSConnection


POOLS = {"http": _HTTPPool, "https": _HTTPSPool}
