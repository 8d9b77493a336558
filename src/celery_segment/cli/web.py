"""``web``: serve the operator's panel."""

from __future__ import annotations

import os
import socket
from typing import Any

import click
from celery.bin.base import CeleryCommand, handle_preload_options

from celery_segment.cli.common import app_of
from celery_segment.config.parsers import is_loopback
from celery_segment.runtime import runtime_of
from celery_segment.web import PASSWORD

__all__ = ["web"]

#: Requests that are answered at the same time.
THREADS = 8


@click.command(cls=CeleryCommand)
@click.option(
    "--address",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help=f"Address to listen on. One that other hosts reach needs a password in {PASSWORD}.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=5556,
    show_default=True,
    help="Port to listen on; 0 for any that is free.",
)
@click.option(
    "--allow-changes",
    is_flag=True,
    help="Let visitors replay, purge, pause, resume, flush and forget; by default they may read.",
)
@click.option(
    "--host-name",
    "host_names",
    multiple=True,
    metavar="NAME",
    help="A name by which visitors reach this host, besides localhost; may be given several times.",
)
@click.pass_context
@handle_preload_options
def web(
    ctx: click.Context, address: str, port: int, allow_changes: bool, host_names: tuple[str, ...]
) -> None:
    """Serve the operator's panel: sources, dead letters and workers.

    It needs the extra web, and runs until Ctrl-C. Its pages show messages, and so
    people's data.
    """
    app = app_of(ctx)
    password = os.environ.get(PASSWORD) or None
    if not (is_loopback(address) or password):
        raise click.UsageError(
            f"Other hosts reach {address}: set {PASSWORD} in the environment to the password that"
            " visitors are to give, or leave --address out."
        )
    runtime_of(app).settings  # noqa: B018 - wrong ones are told at once
    server = _server(app, address, port, allow_changes, host_names, password)
    does = "visitors may change things" if allow_changes else "read-only: see --allow-changes"
    host = f"[{server.effective_host}]" if ":" in server.effective_host else server.effective_host
    click.echo(f"http://{host}:{server.effective_port}/ ({does})")
    try:
        server.run()
    finally:
        server.close()


def _server(
    app: Any,
    address: str,
    port: int,
    allow_changes: bool,
    host_names: tuple[str, ...],
    password: str | None,
) -> Any:
    try:
        from waitress.server import create_server

        from celery_segment.web.panel import panel_site
        from celery_segment.web.wsgi import LOOPBACK, WebApplication
    except ImportError as error:
        text = f"{error.name} is not installed: pip install 'celery-segment[web]'"
        raise click.ClickException(text) from error
    # With a password, a name of somebody else that leads here shows nothing: a browser gives the
    # password to the name alone for which it was typed.
    hosts = (
        None
        if password and not host_names
        else {*LOOPBACK, *map(str.lower, (address, *host_names))}
    )
    pages = WebApplication(
        panel_site(app), may_change=lambda _: allow_changes, hosts=hosts, password=password
    )
    return create_server(pages, sockets=[_listen(address, port)], threads=THREADS, ident=None)


def _listen(address: str, port: int) -> socket.socket:
    try:
        family, *_, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(place[:2], family=family)
    except OSError as error:
        text = f"cannot listen on {address}, port {port}: {error.strerror or error}"
        raise click.ClickException(text) from error
