"""``dead``: list, show, replay and purge the messages that were given up."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any, TypeVar

import click
from celery.bin.base import CeleryCommand, handle_preload_options
from rich.text import Text

from celery_segment.cli.common import app_of, console_of, counted, json_option, one_line, table
from celery_segment.client import Analytics, DeadLetters
from celery_segment.config import DEFAULT_SOURCE

__all__ = ["dead"]

F = TypeVar("F", bound=Callable[..., Any])

#: DEL and the C1 controls, which JSON leaves as they are and terminals obey.
_CONTROLS = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}

_source = click.option(
    "--source", default=DEFAULT_SOURCE, show_default=True, metavar="NAME", help="The source."
)


def _batches(function: F) -> F:
    """Give a command its batch ids and ``--all``."""
    every = click.option("--all", "every", is_flag=True, help="All dead letters of the source.")
    return click.argument("batches", nargs=-1, metavar="[BATCH]...")(every(function))


@click.group()
@click.pass_context
@handle_preload_options
def dead(ctx: click.Context) -> None:
    """Handle dead letters: batches that were given up, and are kept."""


@dead.command("list", cls=CeleryCommand)
@_source
@json_option
@click.pass_context
@handle_preload_options
def list_(ctx: click.Context, source: str, as_json: bool) -> None:
    """List dead letters, the oldest first."""
    letters = list(Analytics(source, app=app_of(ctx)).dead_letters)
    if as_json:
        click.echo(json.dumps([asdict(letter) for letter in letters]))
        return
    if not letters:
        click.echo(f"{source}: no dead letters")
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
@_source
@json_option
@click.pass_context
@handle_preload_options
def show(ctx: click.Context, batch: str, source: str, as_json: bool) -> None:
    """Show the messages of a dead letter, as JSON."""
    letters = Analytics(source, app=app_of(ctx)).dead_letters
    messages = letters.messages(batch)
    if not messages:
        raise _unknown([batch], source)
    text = json.dumps(messages, indent=None if as_json else 2, ensure_ascii=False)
    click.echo(text.translate(_CONTROLS))


@dead.command(cls=CeleryCommand)
@_batches
@_source
@click.pass_context
@handle_preload_options
def replay(ctx: click.Context, batches: tuple[str, ...], every: bool, source: str) -> None:
    """Deliver dead letters again, as if they had never been tried."""
    letters = Analytics(source, app=app_of(ctx)).dead_letters
    _check(batches, every)
    if every:
        batches = tuple(letter.id for letter in letters)
    known, unknown = _sorted_out(letters, batches)
    _tell(source, "replayed", letters.replay(*known) if known else 0, unknown, every)


@dead.command(cls=CeleryCommand)
@_batches
@_source
@click.option("--yes", is_flag=True, help="Do not ask before all are deleted.")
@click.pass_context
@handle_preload_options
def purge(
    ctx: click.Context, batches: tuple[str, ...], every: bool, source: str, yes: bool
) -> None:
    """Delete dead letters for good."""
    letters = Analytics(source, app=app_of(ctx)).dead_letters
    _check(batches, every)
    if every:
        # What is asked about is what is deleted, whatever dies meanwhile.
        found = list(letters)
        batches = tuple(letter.id for letter in found)
        if found and not yes:
            many = counted(sum(letter.messages for letter in found), "message")
            click.confirm(f"{source}: delete {many} for good?", abort=True, err=True)
    known, unknown = _sorted_out(letters, batches)
    _tell(source, "purged", letters.purge(*known) if known else 0, unknown, every)


def _check(batches: tuple[str, ...], every: bool) -> None:
    if every == bool(batches):
        raise click.UsageError("Give batch ids, as `dead list` shows them, or --all.")


def _sorted_out(letters: DeadLetters, batches: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Return the ids that are dead letters, and those that are not."""
    ids = list(dict.fromkeys(batches))
    known = [batch for batch in ids if batch in letters]
    return known, [batch for batch in ids if batch not in known]


def _tell(source: str, done: str, messages: int, unknown: Sequence[str], every: bool) -> None:
    if messages or not unknown or every:
        click.echo(f"{source}: {done} {counted(messages, 'message')}")
    if unknown and not every:  # of all that were listed, another may have settled some
        raise _unknown(unknown, source)


def _unknown(batches: Sequence[str], source: str) -> click.ClickException:
    ids = one_line(", ".join(batches))
    return click.ClickException(f"{source}: no dead letter of this id: {ids}; see `dead list`")
