"""``move``: empty an old buffer into the configured one."""

from __future__ import annotations

import json
from typing import Any

import click
from celery.bin.base import CeleryCommand, handle_preload_options

from celery_segment.cli.common import app_of, console_of
from celery_segment.cli.moving import moving_options, result_of, text_of
from celery_segment.operations.emptying import Emptying, empty
from celery_segment.operations.moving import run
from celery_segment.text import counted, one_line

__all__ = ["move"]

NOT_HERE = "not in segment_sources here, or not enabled"


@click.command(cls=CeleryCommand)
@click.argument("sources", nargs=-1, metavar="[SOURCE]...")
@click.option(
    "--from",
    "url",
    default="",
    envvar="SEGMENT_MOVE_FROM",
    show_envvar=True,
    metavar="URL",
    help="URL of the old buffer's Redis, in the form of segment_redis_url; by default the"
    " configured one. Put a URL with a password into the environment: other users of this host"
    " can see arguments.",
)
@click.option(
    "--from-namespace",
    "namespace",
    metavar="NAME",
    help="Namespace of the old buffer; by default segment_namespace. Give an empty one for none.",
)
@moving_options
@click.pass_context
@handle_preload_options
def move(
    ctx: click.Context,
    sources: tuple[str, ...],
    url: str,
    namespace: str | None,
    timeout: float,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Move all that an old buffer holds to the configured one.

    For a buffer that was moved to another Redis, or to another namespace: the
    messages, dead letters and totals of the old one are moved, of each SOURCE, or
    of all that are enabled. Workers and web processes may go on meanwhile, with the
    old buffer and with the new one. The command may be interrupted or killed, and
    repeated: it loses and doubles nothing. While processes still use the old
    buffer, repeat it. The exit status is 1 when something remains.

    What this host has spilled to a file is moved, too.
    """
    if not url and namespace is None:
        raise click.UsageError("Give --from or SEGMENT_MOVE_FROM, or --from-namespace.")
    app = app_of(ctx)
    emptying = empty(app, url, namespace=namespace, names=sources)
    for each in emptying.moves.values():
        each.look()
    if not dry_run:
        if not yes:
            click.confirm(_question(emptying), abort=True, err=True)
        _run(ctx, emptying, timeout)
    if as_json:
        click.echo(json.dumps(_json(emptying)))
    else:
        _print(emptying, dry_run=dry_run)
    is_left = emptying.others or any(each.waits_for for each in emptying.moves.values())
    ctx.exit(1 if is_left and not dry_run else 0)


def _question(emptying: Emptying) -> str:
    count = sum(each.remaining for each in emptying.moves.values())
    return (
        f"Move {counted(count, 'message')} of {', '.join(emptying.moves)}\n"
        f"from {emptying.old_address}\nto {emptying.new_address}?"
    )


def _run(ctx: click.Context, emptying: Emptying, timeout: float) -> None:
    with console_of(ctx, stderr=True).status("moving") as line:

        def show(_: object) -> None:
            moved = sum(each.moved for each in emptying.moves.values())
            line.update(f"moved {counted(moved, 'message')}")

        run(list(emptying.moves.values()), timeout, watch=show)


def _json(emptying: Emptying) -> dict[str, Any]:
    others = {
        one_line(name): {
            "moved": 0,
            "remaining": _held(figures),
            "waits_for": f"its configuration: {NOT_HERE}",
        }
        for name, figures in emptying.others.items()
    }
    return {name: result_of(each) for name, each in emptying.moves.items()} | others


def _print(emptying: Emptying, *, dry_run: bool) -> None:
    for name, each in emptying.moves.items():
        click.echo(f"{name}: {text_of(each, dry_run=dry_run)}")
    for name, figures in emptying.others.items():
        messages = counted(_held(figures), "message")
        click.echo(f"{one_line(name)}: {messages} not moved: the source is {NOT_HERE}")
    if not emptying.is_complete:
        click.echo("not all keys of the old buffer were searched for further sources", err=True)


def _held(figures: Any) -> int:
    return int(figures.waiting + figures.dead.messages)
