"""``rename``: move all that is stored of a source to another one."""

from __future__ import annotations

import json
from typing import Any

import click
from celery.bin.base import CeleryCommand, handle_preload_options

from celery_segment.cli.common import app_of, console_of, json_option
from celery_segment.operations.moving import Move
from celery_segment.operations.moving import rename as rename_source
from celery_segment.runtime import runtime_of
from celery_segment.text import counted, one_line

__all__ = ["rename"]


@click.command(cls=CeleryCommand)
@click.argument("old")
@click.argument("new")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="Longest time to wait for batches and callbacks that workers hold.",
)
@click.option(
    "--yes",
    is_flag=True,
    help="Do not ask for confirmation where OLD is configured, or another application's.",
)
@json_option
@click.pass_context
@handle_preload_options
def rename(
    ctx: click.Context, old: str, new: str, timeout: float, yes: bool, as_json: bool
) -> None:
    """Move all that is stored of source OLD to source NEW.

    For a source that was renamed in the configuration: its messages, dead letters
    and totals are moved to NEW, which must be configured, and OLD is gone. Workers
    and web processes may go on meanwhile. The command may be interrupted or killed,
    and repeated: it loses and doubles nothing. While processes still use OLD,
    repeat it. The exit status is 1 when something remains.

    What this host has spilled to a file for OLD is moved, too: run the command on
    each host that has such a file.
    """
    app = app_of(ctx)
    move = rename_source(app, old, new)
    if not yes and (why := _in_use(app, move, old)):
        click.confirm(f"{old} {why}. Move what it holds to {new}?", abort=True, err=True)
    with console_of(ctx, stderr=True).status(f"{old}: moving to {new}") as line:
        move.run(timeout, watch=lambda m: line.update(f"{old}: {_moved(m)} to {new}"))
    if as_json:
        found = {"moved": move.moved, "remaining": move.remaining, "waits_for": move.waits_for}
        click.echo(json.dumps(found))
    else:
        click.echo(f"{old}: {_moved(move)} to {new}; {_remaining(move)}")
    ctx.exit(1 if move.waits_for else 0)


def _in_use(app: Any, move: Move, old: str) -> str:
    """Return why calls and workers may still use the old name; "" if nothing says so."""
    if old in runtime_of(app).settings.sources:
        return "is still configured: calls and workers may use it"
    if (owner := move.owner) not in {"", app.main or ""}:
        return f"is delivered by the application {one_line(owner)!r}"
    return ""


def _moved(move: Move) -> str:
    return f"moved {counted(move.moved, 'message')}"


def _remaining(move: Move) -> str:
    if not move.waits_for:
        return "nothing remains"
    verb = "remains" if move.remaining == 1 else "remain"
    return f"{counted(move.remaining, 'message')} {verb} and wait for {move.waits_for}"
