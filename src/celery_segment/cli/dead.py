"""``dead``: list, show, replay, purge and export dead letters."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import click
import msgspec
from celery.bin.base import CeleryCommand, handle_preload_options
from rich.text import Text

from celery_segment.cli.common import console_of, json_option, table
from celery_segment.cli.dead_groups import list_groups, moment
from celery_segment.cli.export import export
from celery_segment.cli.selecting import Filters, dead_letters_of, filter_options, source_option
from celery_segment.operations.dead_letters import DeadLetters
from celery_segment.text import counted, one_line, printable

__all__ = ["dead"]

F = TypeVar("F", bound=Callable[..., Any])


def _batches(function: F) -> F:
    """Add the batch ids and ``--all`` to a command."""
    every = click.option("--all", "every", is_flag=True, help="All dead letters of the source.")
    return click.argument("batches", nargs=-1, metavar="[BATCH]...")(every(function))


@click.group()
@click.pass_context
@handle_preload_options
def dead(ctx: click.Context) -> None:
    """List, show, replay, purge and export dead letters.

    A dead letter is a batch that was given up. It is kept until it is replayed
    or purged.
    """


dead.add_command(export)


@dead.command("list", cls=CeleryCommand)
@source_option
@filter_options
@click.option("--group", "grouped", is_flag=True, help="List groups: by reason, type and event.")
@json_option
@click.pass_context
@handle_preload_options
def list_(ctx: click.Context, source: str, filters: Filters, grouped: bool, as_json: bool) -> None:
    """List dead letters, oldest first; or their groups, most messages first.

    A dead letter with messages of several types and events is in several groups.
    """
    dead_letters = dead_letters_of(ctx, source)
    if grouped:
        if filters:
            raise click.UsageError("--group lists all groups: it has no filters.")
        list_groups(ctx, source, dead_letters, as_json=as_json)
        return
    letters = list(dead_letters.select(**filters._asdict()))
    if as_json:
        click.echo(json.dumps([asdict(letter) for letter in letters]))
        return
    if not letters:
        click.echo(f"{source}: no dead letters" + (" that match" if filters else ""))
        return
    words = {"when", "what", "reason"}
    made = table("batch", "messages", "bytes", "when", "what", "reason", words=words)
    for letter in letters:
        made.add_row(
            Text(one_line(letter.id), no_wrap=True),
            f"{letter.messages:,}",
            f"{letter.bytes:,}",
            moment(letter.buried),
            Text(one_line(letter.kinds)),
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
    """Show the messages of a dead letter as JSON."""
    messages = dead_letters_of(ctx, source).raw(batch)
    if not messages:
        raise _unknown([batch], source)
    # The stored bytes are formatted, since a float does not keep all digits of a number.
    text = msgspec.json.format(b"[%b]" % b",".join(messages), indent=0 if as_json else 2)
    click.echo(printable(text.decode()))


@dead.command(cls=CeleryCommand)
@_batches
@source_option
@filter_options
@click.pass_context
@handle_preload_options
def replay(
    ctx: click.Context, batches: tuple[str, ...], every: bool, source: str, filters: Filters
) -> None:
    """Deliver dead letters again, with their attempts counted from zero."""
    letters = dead_letters_of(ctx, source)
    _check_selection(batches, every, filters)
    known, unknown = _split_known(letters, batches)
    if not batches:
        known = [letter.id for letter in letters.select(**filters._asdict())]
    _report(source, "replayed", letters.replay(known), unknown)


@dead.command(cls=CeleryCommand)
@_batches
@source_option
@filter_options
@click.option(
    "--yes",
    is_flag=True,
    help="Do not ask for confirmation; batches given by their ids never need one.",
)
@click.pass_context
@handle_preload_options
def purge(
    ctx: click.Context,
    batches: tuple[str, ...],
    every: bool,
    source: str,
    filters: Filters,
    yes: bool,
) -> None:
    """Delete dead letters permanently."""
    letters = dead_letters_of(ctx, source)
    _check_selection(batches, every, filters)
    known, unknown = _split_known(letters, batches)
    if not batches:
        # Delete exactly what the confirmation shows, not what is buried meanwhile.
        found = list(letters.select(**filters._asdict()))
        known = [letter.id for letter in found]
        if found and not yes:
            many = counted(sum(letter.messages for letter in found), "message")
            click.confirm(f"{source}: delete {many} permanently?", abort=True, err=True)
    _report(source, "purged", letters.purge(known), unknown)


def _check_selection(batches: tuple[str, ...], every: bool, filters: Filters) -> None:
    if bool(batches) + every + bool(filters) != 1:
        raise click.UsageError(
            "Give batch ids as shown by `dead list`, or --all, or any of --reason, --since,"
            " --until and --in-group."
        )


def _split_known(letters: DeadLetters, batches: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Return the ids of dead letters, and the ids that are unknown."""
    ids = dict.fromkeys(batches)
    known = {batch: None for batch in ids if batch in letters}
    return list(known), [batch for batch in ids if batch not in known]


def _report(source: str, done: str, messages: int, unknown: Sequence[str]) -> None:
    if messages or not unknown:
        click.echo(f"{source}: {done} {counted(messages, 'message')}")
    if unknown:
        raise _unknown(unknown, source)


def _unknown(batches: Sequence[str], source: str) -> click.ClickException:
    ids = one_line(", ".join(batches))
    return click.ClickException(f"{source}: no such dead letter ({ids}): see `dead list`")
