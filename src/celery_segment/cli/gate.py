"""``pause`` and ``resume``: close a source to deliveries, and open it."""

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
    """Stop delivery until it is resumed; calls go on being stored."""
    app = app_of(ctx)
    for name in source_names(app, names):
        if Analytics(name, app=app).pause():
            click.echo(f"{name}: paused; calls are stored, and delivered once it is resumed")
        else:
            click.echo(f"{name}: was paused already")


@click.command(cls=CeleryCommand)
@names_option
@click.pass_context
@handle_preload_options
def resume(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Deliver again, at once: also what waits for a failing endpoint."""
    app = app_of(ctx)
    for name in source_names(app, names):
        wait = Analytics(name, app=app).resume()
        if wait:
            left = duration(math.ceil(wait))
            click.echo(f"{name}: resumed, but the endpoint asked for a wait (Retry-After):"
                       f" delivery goes on in {left}")  # fmt: skip
        else:
            click.echo(f"{name}: resumed; the workers deliver")
