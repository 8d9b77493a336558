"""``deliver``: deliver in this process, without a worker and without the broker."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import click
from celery.bin.base import CeleryCommand, handle_preload_options
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from celery_segment.cli.common import app_of, console_of, json_option, names_option, source_names
from celery_segment.text import counted, one_line
from celery_segment.worker.inprocess import Deliverer, deliverers_of
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
    sources = {name: deliverers_of(app, name) for name in source_names(app, names)}
    with _stop() as stopped:
        _deliver(sources, console_of(ctx, stderr=True), timeout, stopped, follow=follow)
    left = {name: _remaining(shards) for name, shards in sources.items()}
    if as_json:
        click.echo(json.dumps({name: {"remaining": count} for name, count in left.items()}))
    else:
        for name, shards in sources.items():
            click.echo(f"{name}: {_outcome(shards, left[name])}")
    ctx.exit(1 if any(left.values()) else 0)


def _remaining(shards: list[Deliverer]) -> int:
    return sum(each.remaining for each in shards)


def _deliver(
    sources: dict[str, list[Deliverer]],
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
        bars = {name: progress.add_task(name, total=0, remaining="") for name in sources}
        most = dict.fromkeys(sources, 0)

        def show(each: Deliverer) -> None:
            name, left = each.source, _remaining(sources[each.source])
            most[name] = total = max(most[name], left)
            remaining = counted(left, "message")
            progress.update(bars[name], total=total, completed=total - left, remaining=remaining)

        all_of_them = list(chain.from_iterable(sources.values()))
        deliver_all(
            all_of_them, timeout=timeout, follow=follow, watch=show, until=lambda: bool(stopped)
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


def _outcome(shards: list[Deliverer], left: int) -> str:
    if not left:
        return "nothing remains"
    text = f"{counted(left, 'message')} {'remains' if left == 1 else 'remain'}"
    each = next(each for each in shards if each.remaining)
    if each.gate.state == "paused":
        return (
            f"{text}: the source is paused; `celery segment resume --source {each.source}` opens it"
        )
    if each.left_to_others:
        return f"{text}: {each.left_to_others}"
    return f"{text}: the source is {one_line(str(each.gate))}" if each.gate.reason else text
