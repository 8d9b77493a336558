"""The groups of dead letters, as ``dead list --group`` shows them."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime, timezone

import click
from rich.text import Text

from celery_segment.cli.common import console_of, table
from celery_segment.operations.dead_letters import DeadLetters
from celery_segment.text import one_line

__all__ = ["list_groups", "moment"]


def list_groups(ctx: click.Context, source: str, letters: DeadLetters, *, as_json: bool) -> None:
    """Print the groups of a source's dead letters as a table, or as JSON."""
    groups = letters.groups()
    if as_json:
        click.echo(json.dumps([asdict(group) for group in groups]))
        return
    if not groups:
        click.echo(f"{source}: no dead letters")
        return
    words = {"what", "reason", "oldest", "youngest", "group"}
    made = table(
        "messages", "letters", "what", "reason", "oldest", "youngest", "group", words=words
    )
    for group in groups:
        made.add_row(
            f"{group.messages:,}",
            f"{group.letters:,}",
            Text(one_line(group.kind)),
            Text(one_line(group.reason)),
            moment(group.oldest),
            moment(group.youngest),
            Text(one_line(group.id), no_wrap=True),
        )
    console_of(ctx).print(made)


def moment(seconds: float) -> Text:
    """Return a time in seconds since the epoch as the local time, for a table."""
    when = datetime.fromtimestamp(seconds, timezone.utc).astimezone()
    return Text(f"{when:%Y-%m-%d %H:%M:%S}", no_wrap=True)
