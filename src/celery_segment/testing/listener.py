"""The sockets of a ``SegmentServer``: reads requests, carries replies out."""

from __future__ import annotations

import socket
import socketserver
import struct
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from celery_segment.testing.protocol import MAX_DECODED_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable
    from email.message import Message

    from celery_segment.testing.reply import Reply

__all__ = ["Listener"]

_GARBAGE = b"\x15\x03\x01\x00\x02\x02\x46 this is not HTTP\r\n\r\n"
_CHUNK = 1 << 16
_BODILESS = frozenset({204, 304})


class Listener(ThreadingHTTPServer):
    """Serves each connection on a thread of its own until it is stopped.

    Args:
        address: Host and port to listen on.
        decide: Gives the reply to a request, from when it arrived, its method,
            target, headers and body.
        failed: Told of an exception in ``decide``.
    """

    request_queue_size = 128
    daemon_threads = True
    block_on_close = False

    def __init__(
        self,
        address: tuple[str, int],
        decide: Callable[[float, str, str, Message, bytes], Reply],
        failed: Callable[[BaseException], None],
    ) -> None:
        self.decide = decide
        self.stopping = threading.Event()
        self._failed = failed
        self._connections: set[Any] = set()
        self._closed = threading.Condition()
        super().__init__(address, _Handler)
        # The poll bounds how long stop() waits for the accepting thread.
        self._thread = threading.Thread(
            target=self.serve_forever, args=(0.02,), name="segment-server", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Close the port and every connection, and wait for their threads."""
        self.stopping.set()
        self.shutdown()
        self._thread.join()
        self.server_close()
        with self._closed:
            for connection in self._connections:
                _shut(connection)
            self._closed.wait_for(lambda: not self._connections, timeout=5)

    def server_bind(self) -> None:
        """Bind, without the look-up of the host's name that may wait for a resolver."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start the connection's thread."""
        with self._closed:
            self._connections.add(request)
        super().process_request(request, client_address)

    def close_request(self, request: Any) -> None:
        """Close the connection's socket."""
        super().close_request(request)
        with self._closed:
            self._connections.discard(request)
            self._closed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Pass on what a script raised; a client that has gone is no error."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, OSError):
            self._failed(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Listener
    _arrived = 0.0

    def parse_request(self) -> bool:
        self._arrived = time.monotonic()
        return super().parse_request()

    def _serve(self) -> None:
        data = self._read_body()
        if data is None:
            self.close_connection = True
            return
        reply = self.server.decide(self._arrived, self.command, self.path, self.headers, data)
        if reply.delay and self.server.stopping.wait(reply.delay):
            self.close_connection = True
            return
        self._carry_out(reply)

    do_DELETE = do_GET = do_HEAD = do_OPTIONS = do_PATCH = do_POST = do_PUT = _serve  # noqa: N815

    def _read_body(self) -> bytes | None:
        """Give the start of the body; None when the client left before its end."""
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or "Transfer-Encoding" in self.headers:
            # Where this body ends is not known, so neither is the next request's start.
            self.close_connection = True
            return b""
        data = self.rfile.read(min(int(length), MAX_DECODED_BYTES))
        missing = int(length) - len(data)
        while missing and (chunk := self.rfile.read(min(missing, _CHUNK))):
            missing -= len(chunk)
        return None if missing else data

    def _carry_out(self, reply: Reply) -> None:
        if reply.manner == "answer":
            self.wfile.write(b"".join(self._encode(reply)))
        elif reply.manner == "drip":
            self._drip(*self._encode(reply), pause=reply.byte_delay)
        else:
            self.close_connection = True
            if reply.manner == "garbage":
                self.wfile.write(_GARBAGE)
            elif reply.manner == "reset":
                self._reset()

    def _encode(self, reply: Reply) -> tuple[bytes, bytes]:
        try:
            phrase = HTTPStatus(reply.code).phrase
        except ValueError:
            phrase = "Unknown"
        body = b"" if reply.code in _BODILESS or self.command == "HEAD" else reply.body
        lines = [f"HTTP/1.1 {reply.code} {phrase}", "Content-Type: application/json"]
        lines += [f"{name}: {value}" for name, value in reply.headers]
        if reply.code not in _BODILESS:
            lines.append(f"Content-Length: {len(reply.body)}")
        if self.close_connection:
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"), body

    def _drip(self, head: bytes, body: bytes, *, pause: float) -> None:
        for byte in head:
            self.wfile.write(bytes((byte,)))
            if self.server.stopping.wait(pause):
                self.close_connection = True
                return
        self.wfile.write(body)

    def _reset(self) -> None:
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        # The ordinary way out sends a FIN first, and the client would see a mere close.
        socket.close(self.connection.detach())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the parent's name
        """Say nothing: what came is in the server's records."""


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:  # the client was first
        return
