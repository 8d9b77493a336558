"""``forget``: delete one person's messages."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from typing import Any

import click
from celery.bin.base import CeleryCommand, handle_preload_options

from celery_segment.cli.common import app_of, json_option, names_option, source_names
from celery_segment.operations.forget import Forgotten, summary_of
from celery_segment.operations.forget import forget as forget_person
from celery_segment.text import counted

__all__ = ["forget"]


@click.command(cls=CeleryCommand)
@click.option(
    "--user-id",
    "user_ids",
    multiple=True,
    metavar="ID",
    help="A user id of the person; may be given several times.",
)
@click.option(
    "--anonymous-id",
    "anonymous_ids",
    multiple=True,
    metavar="ID",
    help="An anonymous id of the person; may be given several times.",
)
@names_option
@click.option("--dry-run", is_flag=True, help="Count the messages, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
@click.pass_context
@handle_preload_options
def forget(
    ctx: click.Context,
    user_ids: tuple[str, ...],
    anonymous_ids: tuple[str, ...],
    names: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Delete the messages of one person permanently.

    Deletes what waits in Redis or in this host's spill file, and what is in dead
    letters: messages whose userId or anonymousId is one of the ids, or whose
    previousId is (alias). Ids in properties, traits or the context are not
    searched.

    Workers and calls may go on meanwhile. What a worker delivers at this moment is
    left and reported: repeat the command when its lease has expired. The exit
    status is 1 when something is left. The command may be interrupted, and
    repeated.
    """
    if not user_ids + anonymous_ids:
        raise click.UsageError("Give --user-id or --anonymous-id.")
    app = app_of(ctx)
    sources = source_names(app, names)
    search = partial(forget_person, app, user_ids=user_ids, anonymous_ids=anonymous_ids)
    if not (dry_run or yes):
        found = [search(source, dry_run=True) for source in sources]
        many = counted(sum(each.deleted + each.spilled for each in found), "message")
        click.confirm(f"{', '.join(sources)}: delete {many} permanently?", abort=True, err=True)
    results = {source: search(source, dry_run=dry_run) for source in sources}
    if as_json:
        click.echo(json.dumps({source: _json(each) for source, each in results.items()}))
    else:
        for source, each in results.items():
            click.echo(f"{source}: {summary_of(each, dry_run=dry_run)}")
    is_left = any(not each.is_complete for each in results.values())
    ctx.exit(1 if is_left and not dry_run else 0)


def _json(found: Forgotten) -> dict[str, Any]:
    return {"deleted": found.deleted, **asdict(found), "is_complete": found.is_complete}
