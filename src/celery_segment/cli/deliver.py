"""``deliver``: deliver in this process, without a worker and without the broker."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import click
from celery.bin.base import CeleryCommand, handle_preload_options
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from celery_segment.cli.common import app_of, console_of, json_option, names_option, source_names
from celery_segment.text import counted, one_line
from celery_segment.worker.inprocess import Deliverer
from celery_segment.worker.inprocess import deliver as deliver_all

__all__ = ["deliver"]


@click.command(cls=CeleryCommand)
@names_option
@click.option("--follow", is_flag=True, help="Continue when nothing is left, until interrupted.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="The longest time to deliver; by default until nothing is left.",
)
@json_option
@click.pass_context
@handle_preload_options
def deliver(
    ctx: click.Context, names: tuple[str, ...], follow: bool, timeout: float | None, as_json: bool
) -> None:
    """Deliver what is stored in this process, without workers.

    The broker is not needed, and a Redis at its maxmemory is emptied. Workers
    may deliver at the same time. The exit status is 0 when nothing is left, and
    1 when messages remain. A paused source is not delivered, and one whose
    write key is missing or refused is not waited for.
    """
    app = app_of(ctx)
    deliverers = [Deliverer(app, name) for name in source_names(app, names)]
    with _stop() as stopped:
        _deliver(deliverers, console_of(ctx, stderr=True), timeout, stopped, follow=follow)
    if as_json:
        click.echo(json.dumps({each.source: {"remaining": each.remaining} for each in deliverers}))
    else:
        for each in deliverers:
            click.echo(f"{each.source}: {_outcome(each)}")
    ctx.exit(1 if any(each.remaining for each in deliverers) else 0)


def _deliver(
    deliverers: list[Deliverer],
    console: Console,
    timeout: float | None,
    stopped: list[int],
    *,
    follow: bool,
) -> None:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("remaining: {task.fields[remaining]}"),
        TimeElapsedColumn(),
    )
    quiet = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        bars = {each: progress.add_task(each.source, total=0, remaining="") for each in deliverers}
        most = dict.fromkeys(deliverers, 0)

        def show(each: Deliverer) -> None:
            most[each] = total = max(most[each], each.remaining)
            done = total - each.remaining
            remaining = counted(each.remaining, "message")
            progress.update(bars[each], total=total, completed=done, remaining=remaining)

        deliver_all(
            deliverers, timeout=timeout, follow=follow, watch=show, until=lambda: bool(stopped)
        )


@contextmanager
def _stop() -> Iterator[list[int]]:
    """Let SIGINT and SIGTERM stop the delivery after the batch that is under way."""
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _outcome(each: Deliverer) -> str:
    if not each.remaining:
        return "nothing remains"
    verb = "remains" if each.remaining == 1 else "remain"
    text = f"{counted(each.remaining, 'message')} {verb}"
    if each.gate.state == "paused":
        return (
            f"{text}: the source is paused; `celery segment resume --source {each.source}` opens it"
        )
    if each.left_to_others:
        return f"{text}: {each.left_to_others}"
    return f"{text}: the source is {one_line(str(each.gate))}" if each.gate.reason else text
