"""The sockets of a ``SegmentServer``: read requests and send the replies."""

from __future__ import annotations

import socket
import socketserver
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from wsgiref.handlers import SimpleHandler
from wsgiref.simple_server import WSGIRequestHandler

from celery_segment.testing.protocol import MAX_DECODED_BYTES, is_for_endpoint
from celery_segment.text import http_phrase

if TYPE_CHECKING:
    from collections.abc import Callable
    from email.message import Message

    from _typeshed.wsgi import WSGIApplication

    from celery_segment.testing.reply import Reply

__all__ = ["Listener"]

_GARBAGE = b"\x15\x03\x01\x00\x02\x02\x46 this is not HTTP\r\n\r\n"
_CHUNK = 1 << 16
_BODILESS = frozenset({204, 304})


class Listener(ThreadingHTTPServer):
    """An HTTP server that serves each connection in a thread of its own.

    Args:
        address: Host and port to listen on.
        decide: Returns the reply to a request, given the time of its arrival, its method,
            target, headers and body.
        failed: Called with an exception that ``decide`` raised.
        pages: Answers the requests that are not for the endpoint; None has ``decide`` do it.
    """

    request_queue_size = 128
    daemon_threads = True
    block_on_close = False

    def __init__(
        self,
        address: tuple[str, int],
        decide: Callable[[float, str, str, Message, bytes], Reply],
        failed: Callable[[BaseException], None],
        pages: WSGIApplication | None = None,
    ) -> None:
        self.decide = decide
        self.pages = pages
        self.stopping = threading.Event()
        self._failed = failed
        self._connections: set[Any] = set()
        self._closed = threading.Condition()
        super().__init__(address, _Handler)
        # The poll interval limits how long stop() waits for this thread.
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
        """Bind without looking the host's name up, which may wait for a resolver."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        # What WSGI is told of the server.
        self.base_environ = {
            "SCRIPT_NAME": "",
            "SERVER_NAME": str(self.server_name),
            "SERVER_PORT": str(self.server_port),
        }

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start the thread of a connection."""
        with self._closed:
            self._connections.add(request)
        super().process_request(request, client_address)

    def close_request(self, request: Any) -> None:
        """Close the socket of a connection."""
        super().close_request(request)
        with self._closed:
            self._connections.discard(request)
            self._closed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Report what a script raised. A client that has disconnected is not an error."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, OSError):
            self._failed(error)


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Listener
    _arrived = 0.0

    # WSGI's own serves one request per connection.
    handle = BaseHTTPRequestHandler.handle

    def parse_request(self) -> bool:
        self._arrived = time.monotonic()
        return super().parse_request()

    def _serve(self) -> None:
        data = self._read_body()
        if data is None:
            self.close_connection = True
            return
        if self.server.pages is not None and not is_for_endpoint(self.path):
            self._show_page(self.server.pages, data)
            return
        reply = self.server.decide(self._arrived, self.command, self.path, self.headers, data)
        if reply.delay and self.server.stopping.wait(reply.delay):
            self.close_connection = True
            return
        self._carry_out(reply)

    do_DELETE = do_GET = do_HEAD = do_OPTIONS = do_PATCH = do_POST = do_PUT = _serve  # noqa: N815

    def _show_page(self, pages: WSGIApplication, data: bytes) -> None:
        self.close_connection = True
        environ = {
            **self.get_environ(),
            "CONTENT_LENGTH": str(len(data)),
            # For a page that waits for something.
            "celery_segment.stopping": self.server.stopping,
        }
        handler = SimpleHandler(BytesIO(data), cast("BinaryIO", self.wfile), sys.stderr, environ)
        handler.run(pages)

    def _read_body(self) -> bytes | None:
        """Return the start of the body; None if the client disconnected before its end."""
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or "Transfer-Encoding" in self.headers:
            # The end of the body is unknown, and so is the start of the next request.
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
        phrase = http_phrase(reply.code) or "Unknown"
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
        # The usual way of closing sends a FIN first, which the client sees as a normal close.
        socket.close(self.connection.detach())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the parent's name
        """Log nothing, since the server records the requests."""


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:  # the client has closed it
        return
