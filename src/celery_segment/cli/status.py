"""``status``: show the figures of each source."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import click
import msgspec
from celery.bin.base import CeleryCommand, handle_preload_options
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from celery_segment.cli.common import (
    WIDE,
    app_of,
    console_of,
    json_option,
    names_option,
    source_names,
    table,
)
from celery_segment.errors import SegmentError
from celery_segment.operations.admin import admin_of
from celery_segment.operations.reading import read_figures
from celery_segment.operations.unconfigured import figures_of, find_unconfigured
from celery_segment.runtime import runtime_of
from celery_segment.text import duration, one_line

if TYPE_CHECKING:
    from celery_segment.buffer import Snapshot

__all__ = ["status"]

#: Seconds between two updates of --watch.
PERIOD = 1.0
#: Columns needed to read why a source is closed.
GATE = 24
#: Why nobody delivers a source that is only stored.
NOT_CONFIGURED = "not configured{}: see `segment check`"

#: The figures of the configured sources, and of those that are stored and not configured.
_Figures = tuple[dict[str, "Snapshot"], dict[str, "Snapshot"]]


@click.command(cls=CeleryCommand)
@names_option
@json_option
@click.option("--shards", "by_shard", is_flag=True, help="Show each shard of a source by itself.")
@click.option("--watch", is_flag=True, help="Update every second, until Ctrl-C.")
@click.pass_context
@handle_preload_options
def status(
    ctx: click.Context, names: tuple[str, ...], as_json: bool, by_shard: bool, watch: bool
) -> None:
    """Show how many messages are stored, in flight, delivered and dead.

    All figures count messages, except "batches", which counts the batches that
    the ready messages fill. Sources that are stored in Redis and are not configured
    are shown as well, unless sources are named.
    """
    app = app_of(ctx)
    chosen = source_names(app, names)
    runtime = runtime_of(app)

    others = () if names else tuple(find_unconfigured(runtime.topology, runtime.settings).figures)

    admins = {name: admin_of(runtime, name) for name in chosen}
    if by_shard and not runtime.captures:
        shards = [buffer for name in chosen for buffer in runtime.shards(name)]
        admins = {buffer.source.shard_name: buffer.admin for buffer in shards}

    def look() -> _Figures:
        configured = {name: read_figures(admin, name) for name, admin in admins.items()}
        return configured, figures_of(runtime.topology, runtime.settings, others) if others else {}

    console = console_of(ctx)

    def show() -> None:
        if as_json:
            click.echo(json.dumps(_json(look())))
        else:
            console.print(_table(look(), console))

    if not watch:
        show()
    elif as_json or not console.is_terminal:
        with suppress(KeyboardInterrupt):
            _repeat(show)
    else:
        _watch(console, look)


def _repeat(show: Callable[[], None]) -> None:
    while True:
        show()
        time.sleep(PERIOD)


def _json(found: _Figures) -> dict[str, object]:
    configured, others = found
    figures: dict[str, object] = msgspec.to_builtins(configured)
    marked = {n: msgspec.to_builtins(each) | {"configured": False} for n, each in others.items()}
    return figures | marked


def _watch(console: Console, look: Callable[[], _Figures]) -> None:
    # An error of the first read ends the command; a later one must not end the watch.
    seen: RenderableType = _table(look(), console)

    def show() -> None:
        nonlocal seen
        try:
            seen = _table(look(), console)
        except SegmentError as error:
            live.update(Group(seen, Text(f"\n{one_line(str(error))}", "red")), refresh=True)
        else:
            live.update(seen, refresh=True)

    with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        _repeat(show)


def _table(found: _Figures, console: Console) -> Table:
    """Return a table with one row per source; if it does not fit, with one column per source."""
    configured, others = found
    cells = {name: _cells(s) for name, s in configured.items()}
    for name, figures in others.items():
        gate = NOT_CONFIGURED.format(f" (of {one_line(figures.owner)})" if figures.owner else "")
        cells[one_line(name)] = {**_cells(figures), "gate": Text(gate, "red")}
    labels = list(next(iter(cells.values())))
    wide = table("source", *labels, words={"source", "gate"})
    for name, row in cells.items():
        wide.add_row(name, *row.values())
    wide.columns[0].no_wrap = True
    wide.columns[-1].min_width = min(max(len(row["gate"]) for row in cells.values()), GATE)
    unbounded = console.options.update(width=WIDE)
    if console.measure(wide, options=unbounded).minimum <= console.width:
        return wide
    narrow = table("source", *cells, words={"source"})
    for label in labels:
        narrow.add_row(label, *(row[label] for row in cells.values()))
    for column in narrow.columns[1:]:
        column.no_wrap, column.max_width = False, 2 * GATE
    return narrow


def _cells(s: Snapshot) -> dict[str, Text]:
    figures = {
        "accepted": s.accepted,
        "buffered": s.buffered.messages,
        "ready": s.ready.messages,
        "batches": s.ready.batches,
        "in flight": s.inflight.messages,
        "delivered": s.delivered.messages,
        "dead": s.dead.messages,
        "purged": s.purged,
        # That visitors have no id is no loss, and nothing to act on.
        "dropped": sum(n for reason, n in s.dropped.items() if reason != "unidentified"),
        "retries": s.retries,
    }
    cells = {label: Text(f"{number:,}") for label, number in figures.items()}
    cells["dead"].stylize("red" if s.dead.messages else "")
    cells["dropped"].stylize("red" if figures["dropped"] else "")
    cells["oldest"] = Text(duration(s.oldest) if s.waiting else "-", no_wrap=True)
    cells["gate"] = _gate(s)
    return cells


def _gate(s: Snapshot) -> Text:
    """Return the gate's state, and whether calls are refused because Redis is full."""
    gate = one_line(str(s.gate))
    if s.refusing:
        full = "" if s.memory is None else f": Redis is {s.memory * 100:.0f} % full"
        return Text(f"{gate}; calls are refused{full}", "red")
    return Text(gate, "" if s.gate.state == "open" else "yellow")
