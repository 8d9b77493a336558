"""``metrics``: serve the figures of each source to Prometheus."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from socketserver import ThreadingMixIn
from threading import Lock
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import click
from celery.bin.base import CeleryCommand, handle_preload_options

from celery_segment.cli.common import app_of, names_option

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["metrics"]

PORT = 9809
PATH, HEALTH = "/metrics", "/health"
#: Connections at the same time, and seconds that a client may take for a part of its request.
CONNECTIONS, PATIENCE = 16, 10.0


@click.command(cls=CeleryCommand)
@names_option
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=PORT,
    show_default=True,
    help="Port to listen on; 0 for any free port.",
)
@click.option("--address", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--once", is_flag=True, help="Print the figures and exit.")
@click.pass_context
@handle_preload_options
def metrics(
    ctx: click.Context, names: tuple[str, ...], port: int, address: str, once: bool
) -> None:
    """Serve the figures to Prometheus at /metrics, until interrupted.

    They are read from Redis at each scrape, so one such process is enough,
    wherever the workers run. While it serves, /health answers 200.
    """
    registry = _registry(app_of(ctx), names)
    if once:
        from prometheus_client import generate_latest

        click.echo(generate_latest(registry), nl=False)
        return
    with _listen(registry, address, port) as server, suppress(KeyboardInterrupt):
        # Without a handler, SIGTERM does not stop the first process of a container.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        host = f"[{address}]" if ":" in address else address
        click.echo(f"serving http://{host}:{server.server_port}{PATH}")
        server.serve_forever()


def _registry(app: Any, names: tuple[str, ...]) -> CollectorRegistry:
    try:
        from prometheus_client import CollectorRegistry

        from celery_segment.operations.metrics import Collector
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"{error.name} is not installed: pip install 'celery-segment[metrics]'"
        ) from None
    registry = CollectorRegistry()
    registry.register(Collector(app, tuple(dict.fromkeys(names))))
    return registry


# ---------------------------------------------------------------- HTTP


class _Server(ThreadingMixIn, WSGIServer):
    """Serves each request in a thread: a health check must not wait for a scrape.

    There are at most ``CONNECTIONS`` of them. Whoever connects then is served in place of the
    connection that is the oldest: clients that send nothing keep no other away.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._served: dict[socket.socket, None] = {}
        self._lock = Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            if len(self._served) >= CONNECTIONS:
                oldest = next(iter(self._served))
                del self._served[oldest]
                with suppress(OSError):  # its thread then ends, and closes it
                    oldest.shutdown(socket.SHUT_RDWR)
            self._served[request] = None
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._served.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that is gone or too slow."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(WSGIRequestHandler):
    #: Seconds for each read and write.
    timeout = PATIENCE

    def log_message(self, *_: Any) -> None:
        """Log nothing; otherwise each scrape would log a line."""


def _listen(registry: CollectorRegistry, address: str, port: int) -> WSGIServer:
    from prometheus_client import make_wsgi_app

    scrape = make_wsgi_app(registry)

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == PATH:
            answer: Iterable[bytes] = scrape(environ, start_response)
            return answer
        found = path == HEALTH
        start_response("200 OK" if found else "404 Not Found", [("Content-Type", "text/plain")])
        return [b"ok\n" if found else f"see {PATH} and {HEALTH}\n".encode()]

    _Server.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return make_server(address, port, serve, _Server, _Handler)
    except OSError as error:
        raise click.ClickException(
            f"cannot listen on {address}:{port} ({error.strerror}): choose another with"
            " --address and --port"
        ) from None
