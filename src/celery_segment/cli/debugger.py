"""``debugger``: a local Segment endpoint that shows what arrives."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import click
from celery.bin.base import CeleryCommand, handle_preload_options

from celery_segment.cli.common import app_of
from celery_segment.config import Source
from celery_segment.runtime import runtime_of
from celery_segment.web import PASSWORD
from celery_segment.web.debugger import Debugger
from celery_segment.web.debugger.planned import plan_check
from celery_segment.web.debugger.records import Check
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
    name where this process has their write keys, and held to their tracking
    plans. If the environment has
    SEGMENT_WEB_PASSWORD, the pages ask for it.
    """
    settings = runtime_of(app_of(ctx)).settings
    keys = _sources_by_key(settings.sources.values())
    sources = {key: _title(each) for key, each in keys.items()}
    own = {_title(each): _check(each) for each in keys.values()}
    # Of a key that this process does not have, it is known where all sources have the same plan.
    other = _check([*settings.sources.values()])

    def make() -> Debugger:
        made = Debugger(
            port,
            address,
            sources=sources or None,
            host_names=host_names,
            password=os.environ.get(PASSWORD),
            max_messages=max_messages,
            max_bytes=max_megabytes * _MEGABYTE,
            check_of=lambda name: own.get(name, other),
        )
        made.need_pages()
        return made

    run(make, click.echo)


def _sources_by_key(sources: Iterable[Source]) -> dict[str, list[Source]]:
    """Return the sources by their write keys; sources may share a key."""
    found: dict[str, list[Source]] = {}
    for source in sources:
        if source.write_key is not None:
            found.setdefault(source.write_key.reveal(), []).append(source)
    return found


def _title(sources: Iterable[Source]) -> str:
    return ", ".join(source.name for source in sources)


def _check(sources: Sequence[Source]) -> Check | None:
    """Return what holds messages to the plan of sources; None where they have none in common.

    Raises:
        ConfigurationError: The plan cannot be read, or is not valid.
    """
    plans = {(source.tracking_plan, source.on_unplanned) for source in sources}
    if len(plans) != 1:
        return None
    ((path, on_unplanned),) = plans
    if path is None:
        return None
    return plan_check(path, unplanned=on_unplanned != "allow")
