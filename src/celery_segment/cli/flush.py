"""``flush``: have the workers deliver what is stored, and wait for it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import click
from celery.bin.base import CeleryCommand, handle_preload_options
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from celery_segment.buffer import Buffer, buffer_of
from celery_segment.cli.common import (
    app_of,
    console_of,
    counted,
    duration,
    json_option,
    names_option,
    one_line,
    source_names,
)
from celery_segment.producer.wake import impatient_connection, wake

__all__ = ["flush"]

#: Seconds between two looks at what remains.
POLL = 0.1
#: Seconds that the workers have to answer a ping.
PING = 1.0


@dataclass
class _Flush:
    """One source's flush: what was stored up to the mark, and what of it remains."""

    buffer: Buffer
    mark: int
    total: int
    remaining: int
    paused: bool

    @property
    def waits(self) -> bool:
        return bool(self.remaining) and not self.paused

    def look(self) -> int:
        """Look again; return how many messages are settled."""
        self.remaining = self.buffer.remaining(self.mark)
        return max(self.total - self.remaining, 0)


@click.command(cls=CeleryCommand)
@names_option
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Wait for so long at the most.",
)
@json_option
@click.pass_context
@handle_preload_options
def flush(ctx: click.Context, names: tuple[str, ...], timeout: float, as_json: bool) -> None:
    """Have the workers deliver all that is stored now, and wait for it.

    The exit status is 0 when each message was delivered or became a dead
    letter, and 1 when some remain. A paused source is not waited for.
    """
    app = app_of(ctx)
    flushes = {name: _start(app, name) for name in source_names(app, names)}
    _wait(flushes, time.monotonic() + timeout, console_of(ctx, stderr=True))
    remaining = {name: each.remaining for name, each in flushes.items()}
    reasons = _reasons(app, {name: each for name, each in flushes.items() if each.remaining})
    if as_json:
        found = {n: {"remaining": remaining[n], "reason": reasons.get(n)} for n in flushes}
        click.echo(json.dumps(found))
    else:
        for name in flushes:
            click.echo(f"{name}: {reasons.get(name, 'nothing remains')}")
    ctx.exit(1 if reasons else 0)


def _start(app: Any, name: str) -> _Flush:
    buffer = buffer_of(app, name)
    mark = buffer.mark()
    remaining = buffer.remaining(mark)
    if remaining:
        wake(app, name)
    paused = buffer.snapshot().gate == "paused"
    return _Flush(buffer, mark, remaining, remaining, paused)


def _wait(flushes: dict[str, _Flush], deadline: float, console: Console) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} messages"),
        TimeElapsedColumn(),
    )
    terminal = console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not terminal) as progress:
        bars = {
            name: progress.add_task(name, total=f.total) for name, f in flushes.items() if f.waits
        }
        while any(flushes[name].waits for name in bars):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            time.sleep(min(POLL, left))
            for name, bar in bars.items():
                progress.update(bar, completed=flushes[name].look())


def _reasons(app: Any, unfinished: dict[str, _Flush]) -> dict[str, str]:
    """Return, for each source with messages that remain, how many and the likely reason."""
    workers: str | None = None
    reasons = {}
    for name, each in unfinished.items():
        figures = each.buffer.snapshot()
        if figures.closed is None:
            why = f"the source is paused; `celery segment resume --source {name}` opens it"
        elif figures.closed:
            why = f"the source is closed for {duration(figures.closed)}: {one_line(figures.gate)}"
        else:
            why = workers = workers or _ask_workers(app)
        text = counted(each.remaining, "message")
        reasons[name] = f"{text} {'remains' if each.remaining == 1 else 'remain'}: {why}"
    return reasons


def _ask_workers(app: Any) -> str:
    try:
        with impatient_connection(app) as broker:
            answers = app.control.ping(timeout=PING, connection=broker)
    except Exception as error:  # noqa: BLE001 - whatever a broker's client raises
        return f"the broker is out of reach ({type(error).__name__}), so no worker was woken"
    if not answers:
        return "no worker answers; start one with `celery worker`"
    return "the workers are at it; allow them more with --timeout"
