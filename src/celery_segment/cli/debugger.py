"""``debugger``: a local Segment endpoint that shows what arrives."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import click
from celery.bin.base import CeleryCommand, handle_preload_options

from celery_segment.cli.common import app_of
from celery_segment.runtime import runtime_of
from celery_segment.web import PASSWORD
from celery_segment.web.debugger import Debugger
from celery_segment.web.debugger.running import run
from celery_segment.web.debugger.store import MAX_BYTES, MAX_MESSAGES

__all__ = ["debugger"]

PORT = 8765
_MEGABYTE = 1_000_000


@click.command(cls=CeleryCommand)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=PORT,
    show_default=True,
    help="Port to listen on; 0 for any free port.",
)
@click.option("--address", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--host-name",
    "host_names",
    multiple=True,
    metavar="NAME",
    help="Name by which a browser may ask for the pages, besides localhost; may be given several"
    " times.",
)
@click.option(
    "--max-messages",
    type=click.IntRange(1),
    default=MAX_MESSAGES,
    show_default=True,
    help="Number of messages to keep; the oldest go first.",
)
@click.option(
    "--max-megabytes",
    type=click.IntRange(1),
    default=MAX_BYTES // _MEGABYTE,
    show_default=True,
    help="Memory that they may take, about.",
)
@click.pass_context
@handle_preload_options
def debugger(
    ctx: click.Context,
    port: int,
    address: str,
    host_names: tuple[str, ...],
    max_messages: int,
    max_megabytes: int,
) -> None:
    """Stand in for Segment, and show what arrives, until interrupted.

    Point `segment_host` at the address that it prints, and open the address in
    a browser: it shows each message as it arrives, what is wrong with it, and
    can be made to fail. Programs ask the same below /api/. Sources are shown by
    name where this process has their write keys. If the environment has
    SEGMENT_WEB_PASSWORD, the pages ask for it.
    """
    sources = _names_by_key(app_of(ctx))

    def make() -> Debugger:
        made = Debugger(
            port,
            address,
            sources=sources or None,
            host_names=host_names,
            password=os.environ.get(PASSWORD),
            max_messages=max_messages,
            max_bytes=max_megabytes * _MEGABYTE,
        )
        made.need_pages()
        return made

    run(make, click.echo)


def _names_by_key(app: Any) -> dict[str, str]:
    """Return the names of the sources by their write keys; sources may share a key."""
    names: dict[str, str] = {}
    for key, name in _keys(app):
        names[key] = f"{names[key]}, {name}" if key in names else name
    return names


def _keys(app: Any) -> Iterator[tuple[str, str]]:
    for source in runtime_of(app).settings.sources.values():
        if source.write_key is not None:
            yield source.write_key.reveal(), source.name
