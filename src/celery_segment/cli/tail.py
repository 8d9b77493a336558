"""``tail``: follow messages as they are stored."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

import click
import msgspec
from celery.bin.base import CeleryCommand, handle_preload_options

from celery_segment.cli.common import app_of, console_of, names_option, source_names
from celery_segment.messages import TYPES
from celery_segment.operations.tail import Filter, Stored, follow
from celery_segment.text import one_line, printable

__all__ = ["tail"]

#: Columns of a type, of an event and of an id, unless it is longer.
TYPE, EVENT, ID = 8, 24, 20


@click.command(cls=CeleryCommand)
@names_option
@click.option(
    "--type",
    "types",
    multiple=True,
    type=click.Choice(list(TYPES)),
    help="Only messages of this type; may be given several times.",
)
@click.option(
    "--event",
    "events",
    multiple=True,
    metavar="NAME",
    help="Only events, pages or screens of this name; may be given several times.",
)
@click.option(
    "--user",
    "users",
    multiple=True,
    metavar="ID",
    help="Only messages with this userId or anonymousId; may be given several times.",
)
@click.option("--payload", is_flag=True, help="Show the whole message, too: people's data.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per message.")
@click.pass_context
@handle_preload_options
def tail(
    ctx: click.Context,
    names: tuple[str, ...],
    types: tuple[str, ...],
    events: tuple[str, ...],
    users: tuple[str, ...],
    payload: bool,
    as_json: bool,
) -> None:
    """Follow messages as they are stored, until Ctrl-C.

    Shows the time, source, type, event or name, user and message id of each message
    that is stored from now on, also of one that is delivered and deleted at once.
    Calls are not slowed down by it. Redis keeps copies of batches until they are
    read, for ten seconds at most.
    """
    app = app_of(ctx)
    sources = source_names(app, names)
    wanted = Filter(frozenset(types), frozenset(events), frozenset(users))
    text_of = _json_of if as_json else _lines_of(sources, ctx)

    def say(text: str) -> None:
        click.echo(one_line(text), err=True)

    def started() -> None:
        say(f"following {', '.join(sources)}; Ctrl-C ends it")

    with suppress(KeyboardInterrupt):
        for look in follow(app, sources, wanted, started=started):
            if look.messages:
                click.echo("\n".join(text_of(each, payload) for each in look.messages))
            if look.problem:
                say(look.problem)


def _json_of(message: Stored, payload: bool) -> str:
    about = {
        "source": message.source,
        "type": message.type,
        "event": message.event,
        "userId": message.user_id,
        "anonymousId": message.anonymous_id,
        "messageId": message.message_id,
        "timestamp": message.timestamp,
    }
    text = json.dumps({name: each for name, each in about.items() if each is not None})
    if not payload:
        return text
    # As it is stored, since a float does not keep all digits of a number.
    whole = msgspec.json.format(message.payload, indent=0).decode()
    return printable(f'{text[:-1]}, "message": {whole}}}')


def _lines_of(sources: list[str], ctx: click.Context) -> Callable[[Stored, bool], str]:
    """Return what makes the lines of a message: several with its payload."""
    width = max(map(len, sources))
    has_colours = console_of(ctx).is_terminal and not ctx.obj.no_color

    def styled(text: str, **style: Any) -> str:
        return click.style(text, **style) if has_colours else text

    def lines(message: Stored, payload: bool) -> str:
        event = "-" if message.event is None else one_line(message.event)
        parts = (
            styled(_time_of(message.timestamp), dim=True),
            one_line(message.source).ljust(width),
            styled(one_line(message.type).ljust(TYPE), fg="cyan"),
            styled(event.ljust(EVENT), bold=True),
            one_line(message.user_id or message.anonymous_id or "-").ljust(ID),
            styled(one_line(message.message_id), dim=True),
        )
        line = "  ".join(parts)
        if not payload:
            return line
        formatted = msgspec.json.format(message.payload, indent=2).decode()
        return line + "\n" + printable(formatted)

    return lines


def _time_of(timestamp: str) -> str:
    """Return a time of a message as local time; as it is where it is none."""
    try:
        # Before Python 3.11, fromisoformat does not accept the Z of UTC.
        at = datetime.fromisoformat(timestamp.removesuffix("Z")).replace(tzinfo=timezone.utc)
    except ValueError:
        return one_line(timestamp) or "-"
    local = at.astimezone()
    return f"{local:%Y-%m-%d %H:%M:%S}.{local.microsecond // 1000:03d}"
