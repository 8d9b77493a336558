"""``flush``: have the workers deliver the stored messages, and wait for it."""

from __future__ import annotations

import json
from functools import cache, partial
from typing import Any

import click
from celery.bin.base import CeleryCommand, handle_preload_options
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from celery_segment.cli.common import (
    app_of,
    console_of,
    json_option,
    names_option,
    source_names,
)
from celery_segment.operations.flush import Flush, wait_for
from celery_segment.operations.sending import Sending
from celery_segment.producer import impatient_connection
from celery_segment.runtime import runtime_of
from celery_segment.text import counted, duration, one_line

__all__ = ["flush", "reason_of"]

#: Seconds to wait for the workers' answers to a ping.
PING = 1.0


@click.command(cls=CeleryCommand)
@names_option
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Longest time to wait.",
)
@json_option
@click.pass_context
@handle_preload_options
def flush(ctx: click.Context, names: tuple[str, ...], timeout: float, as_json: bool) -> None:
    """Have the workers deliver what is stored, and wait for it.

    This covers all messages that are stored now. The exit status is 0 if every
    message was delivered or became a dead letter, and 1 if some remain. The command
    does not wait for a paused source.
    """
    app = app_of(ctx)
    flushes = [Flush(runtime_of(app), name) for name in source_names(app, names)]
    _wait(flushes, timeout, console_of(ctx, stderr=True))
    reasons = _reasons(app, [each for each in flushes if each.remaining])
    if as_json:
        found = {
            each.source: {"remaining": each.remaining, "reason": reasons.get(each.source)}
            for each in flushes
        }
        click.echo(json.dumps(found))
    else:
        for each in flushes:
            click.echo(f"{each.source}: {reasons.get(each.source, 'nothing remains')}")
    ctx.exit(1 if reasons else 0)


def _wait(flushes: list[Flush], timeout: float, console: Console) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.fields[messages]}"),
        TimeElapsedColumn(),
    )
    awaited = [each for each in flushes if each.remaining and each.gate().state != "paused"]
    terminal = console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not terminal) as progress:
        bars = {
            each: progress.add_task(
                each.source, total=each.total, messages=counted(each.total, "message")
            )
            for each in awaited
        }

        def show(each: Flush) -> None:
            progress.update(bars[each], completed=each.total - each.remaining)

        wait_for(awaited, timeout, watch=show)


def _reasons(app: Any, unfinished: list[Flush]) -> dict[str, str]:
    """Return, by source, the number of messages that remain and the likely reason."""
    ask_workers = cache(partial(_ask_workers, app))
    reasons = {}
    for each in unfinished:
        why = _reason(each) or ask_workers()
        text = counted(each.remaining, "message")
        reasons[each.source] = f"{text} {'remains' if each.remaining == 1 else 'remain'}: {why}"
    return reasons


def reason_of(app: Any, unfinished: Sending) -> str:
    """Return the likely reason why a message is not delivered yet."""
    return _reason(unfinished) or _ask_workers(app)


def _reason(unfinished: Flush | Sending) -> str:
    """Return why a source is closed; "" if it is not."""
    source, gate = unfinished.source, unfinished.gate()
    if gate.state == "paused":
        return f"the source is paused; run `celery segment resume --source {source}`"
    if gate.seconds:
        return f"the source is closed for {duration(gate.seconds)}: {one_line(gate.reason)}"
    return ""


def _ask_workers(app: Any) -> str:
    try:
        with impatient_connection(app) as broker:
            answers = app.control.ping(timeout=PING, connection=broker)
    except Exception as error:  # noqa: BLE001 - the brokers' clients share no base class
        kind = type(error).__name__
        return f"the broker is unreachable ({kind}); `celery segment deliver` delivers without it"
    if not answers:
        return "no worker answers; start one with `celery worker`"
    return "the workers are delivering; give them more time with --timeout"
