"""``rename``: move all that is stored of a source to another one."""

from __future__ import annotations

import json
from typing import Any

import click
from celery.bin.base import CeleryCommand, handle_preload_options

from celery_segment.cli.common import app_of, console_of
from celery_segment.cli.moving import moving_options, result_of, text_of
from celery_segment.operations.moving import SourceMove
from celery_segment.operations.moving import rename as rename_source
from celery_segment.runtime import runtime_of
from celery_segment.text import one_line

__all__ = ["rename"]


@click.command(cls=CeleryCommand)
@click.argument("old")
@click.argument("new")
@moving_options
@click.pass_context
@handle_preload_options
def rename(
    ctx: click.Context,
    old: str,
    new: str,
    timeout: float,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Move all that is stored of source OLD to source NEW.

    For a source that was renamed in the configuration, or for the shard of one that
    has fewer of them now (`rename shop/3 shop`): its messages, dead letters
    and totals are moved to NEW, which must be configured, and OLD is gone. Workers
    and web processes may go on meanwhile. The command may be interrupted or killed,
    and repeated: it loses and doubles nothing. While processes still use OLD,
    repeat it. The exit status is 1 when something remains. Where OLD is still
    configured, or another application delivers it, the command asks first.

    What this host has spilled to a file for OLD is moved, too: run the command on
    each host that has such a file.
    """
    app = app_of(ctx)
    move = rename_source(app, old, new)
    to = f" to {new}"
    if dry_run:
        move.look()
    else:
        if not yes and (why := _in_use(app, move, old)):
            click.confirm(f"{old} {why}. Move what it holds to {new}?", abort=True, err=True)
        with console_of(ctx, stderr=True).status(f"{old}: moving{to}") as line:
            move.run(timeout, watch=lambda _: line.update(f"{old}: moved {move.moved:,}{to}"))
    if as_json:
        click.echo(json.dumps(result_of(move)))
    else:
        click.echo(f"{old}: {text_of(move, to, dry_run=dry_run)}")
    ctx.exit(1 if move.waits_for and not dry_run else 0)


def _in_use(app: Any, move: SourceMove, old: str) -> str:
    """Return why calls and workers may still use the old name; "" if nothing says so."""
    settings = runtime_of(app).settings
    if old in settings.sources or old in settings.shards:
        return "is still configured: calls and workers may use it"
    if (owner := move.owner) not in {"", app.main or ""}:
        return f"is delivered by the application {one_line(owner)!r}"
    return ""
