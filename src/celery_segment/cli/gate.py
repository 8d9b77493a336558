"""``pause`` and ``resume``: stop the delivery of a source, and start it again."""

from __future__ import annotations

import math

import click
from celery.bin.base import CeleryCommand, handle_preload_options

from celery_segment.cli.common import app_of, names_option, source_names
from celery_segment.operations.source import Analytics
from celery_segment.text import duration

__all__ = ["pause", "resume"]


@click.command(cls=CeleryCommand)
@names_option
@click.pass_context
@handle_preload_options
def pause(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Stop delivery until it is resumed; calls are still stored."""
    app = app_of(ctx)
    for name in source_names(app, names):
        if Analytics(name, app=app).pause():
            click.echo(f"{name}: paused; calls are still stored, and delivered once it is resumed")
        else:
            click.echo(f"{name}: already paused")


@click.command(cls=CeleryCommand)
@names_option
@click.pass_context
@handle_preload_options
def resume(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Resume delivery at once.

    This also ends a wait after failures of the endpoint, but not a wait that the
    endpoint asked for with Retry-After.
    """
    app = app_of(ctx)
    for name in source_names(app, names):
        wait = Analytics(name, app=app).resume()
        if wait:
            left = duration(math.ceil(wait))
            click.echo(f"{name}: resumed, but the endpoint asked for a wait (Retry-After):"
                       f" delivery continues in {left}")  # fmt: skip
        else:
            click.echo(f"{name}: resumed; delivery starts at once")
