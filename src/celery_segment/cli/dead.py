"""``dead``: list, show, replay, purge and export the messages that were given up."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any, TypeVar

import click
import msgspec
from celery.bin.base import CeleryCommand, handle_preload_options
from rich.text import Text

from celery_segment.cli.chosen import Only, only_option, source_option
from celery_segment.cli.common import app_of, console_of, json_option, table
from celery_segment.cli.export import export
from celery_segment.operations.dead_letters import DeadLetters
from celery_segment.operations.source import Analytics
from celery_segment.text import counted, one_line, printable

__all__ = ["dead"]

F = TypeVar("F", bound=Callable[..., Any])


def _batches(function: F) -> F:
    """Give a command its batch ids and ``--all``."""
    every = click.option("--all", "every", is_flag=True, help="All dead letters of the source.")
    return click.argument("batches", nargs=-1, metavar="[BATCH]...")(every(function))


@click.group()
@click.pass_context
@handle_preload_options
def dead(ctx: click.Context) -> None:
    """Handle dead letters: batches that were given up, and are kept."""


dead.add_command(export)


@dead.command("list", cls=CeleryCommand)
@source_option
@only_option
@json_option
@click.pass_context
@handle_preload_options
def list_(ctx: click.Context, source: str, only: Only, as_json: bool) -> None:
    """List dead letters, the oldest first."""
    letters = list(Analytics(source, app=app_of(ctx)).dead_letters.select(**only._asdict()))
    if as_json:
        click.echo(json.dumps([asdict(letter) for letter in letters]))
        return
    if not letters:
        click.echo(f"{source}: no dead letters" + (" of these" if only else ""))
        return
    made = table("batch", "messages", "bytes", "when", "reason", words={"when", "reason"})
    for letter in letters:
        when = datetime.fromtimestamp(letter.buried, timezone.utc).astimezone()
        made.add_row(
            letter.id,
            f"{letter.messages:,}",
            f"{letter.bytes:,}",
            Text(f"{when:%Y-%m-%d %H:%M:%S}", no_wrap=True),
            Text(one_line(letter.reason)),
        )
    console_of(ctx).print(made)


@dead.command(cls=CeleryCommand)
@click.argument("batch")
@source_option
@json_option
@click.pass_context
@handle_preload_options
def show(ctx: click.Context, batch: str, source: str, as_json: bool) -> None:
    """Show the messages of a dead letter, as JSON."""
    messages = Analytics(source, app=app_of(ctx)).dead_letters.raw(batch)
    if not messages:
        raise _unknown([batch], source)
    # The bytes themselves, for a number's digits are not all a float's.
    text = msgspec.json.format(b"[%b]" % b",".join(messages), indent=0 if as_json else 2)
    click.echo(printable(text.decode()))


@dead.command(cls=CeleryCommand)
@_batches
@source_option
@only_option
@click.pass_context
@handle_preload_options
def replay(
    ctx: click.Context, batches: tuple[str, ...], every: bool, source: str, only: Only
) -> None:
    """Deliver dead letters again, as if they had never been tried."""
    letters = Analytics(source, app=app_of(ctx)).dead_letters
    _check(batches, every, only)
    known, unknown = _named(letters, batches)
    if not batches:
        known = [letter.id for letter in letters.select(**only._asdict())]
    _tell(source, "replayed", letters.replay(known), unknown)


@dead.command(cls=CeleryCommand)
@_batches
@source_option
@only_option
@click.option("--yes", is_flag=True, help="Do not ask before what is not named is deleted.")
@click.pass_context
@handle_preload_options
def purge(
    ctx: click.Context,
    batches: tuple[str, ...],
    every: bool,
    source: str,
    only: Only,
    yes: bool,
) -> None:
    """Delete dead letters for good."""
    letters = Analytics(source, app=app_of(ctx)).dead_letters
    _check(batches, every, only)
    known, unknown = _named(letters, batches)
    if not batches:
        # What is asked about is what is deleted, whatever dies meanwhile.
        found = list(letters.select(**only._asdict()))
        known = [letter.id for letter in found]
        if found and not yes:
            many = counted(sum(letter.messages for letter in found), "message")
            click.confirm(f"{source}: delete {many} for good?", abort=True, err=True)
    _tell(source, "purged", letters.purge(known), unknown)


def _check(batches: tuple[str, ...], every: bool, only: Only) -> None:
    if bool(batches) + every + bool(only) != 1:
        raise click.UsageError(
            "Give batch ids, as `dead list` shows them, or --all, or --reason, --since, --until."
        )


def _named(letters: DeadLetters, batches: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Return the ids that are dead letters, and those that are not."""
    ids = dict.fromkeys(batches)
    known = {batch: None for batch in ids if batch in letters}
    return list(known), [batch for batch in ids if batch not in known]


def _tell(source: str, done: str, messages: int, unknown: Sequence[str]) -> None:
    if messages or not unknown:
        click.echo(f"{source}: {done} {counted(messages, 'message')}")
    if unknown:
        raise _unknown(unknown, source)


def _unknown(batches: Sequence[str], source: str) -> click.ClickException:
    ids = one_line(", ".join(batches))
    return click.ClickException(f"{source}: no dead letter of this id: {ids}; see `dead list`")
