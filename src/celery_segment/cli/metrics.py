"""``metrics``: serve the figures of each source to Prometheus."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from socketserver import ThreadingMixIn
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
    """Serves each request in a thread: a health check must not wait for a scrape."""

    daemon_threads = True


class _Handler(WSGIRequestHandler):
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
