"""``status``: show the figures of each source."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

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
from celery_segment.operations.admin import SourceAdmin, admin_of
from celery_segment.operations.reading import read_figures
from celery_segment.operations.unconfigured import figures_of, find_unconfigured
from celery_segment.operations.watching import (
    Present,
    Rates,
    Recent,
    Window,
    Workers,
    of_the_last_hour,
)
from celery_segment.runtime import runtime_of
from celery_segment.text import brief_duration, duration, one_line

if TYPE_CHECKING:
    from celery_segment.buffer import Snapshot

__all__ = ["status"]

#: Seconds between two updates of --watch.
PERIOD = 1.0
#: Workers that are shown by their names.
NAMES = 10
#: Columns needed to read why a source is closed.
GATE = 24
#: Why nobody delivers a source that is only stored.
NOT_CONFIGURED = "not configured{}: see `segment check`"

#: The percentiles that are shown.
PERCENTILES = (50, 95, 99)


class _Seen(NamedTuple):
    """What is shown of a source: its figures, and what it did of late."""

    figures: Snapshot
    recent: Recent
    configured: bool = True


_Sources = dict[str, _Seen]


@click.command(cls=CeleryCommand)
@names_option
@json_option
@click.option("--shards", "by_shard", is_flag=True, help="Show each shard of a source by itself.")
@click.option(
    "--watch", is_flag=True, help="Update every second, with rates and workers, until Ctrl-C."
)
@click.pass_context
@handle_preload_options
def status(
    ctx: click.Context, names: tuple[str, ...], as_json: bool, by_shard: bool, watch: bool
) -> None:
    """Show how many messages are stored, in flight, delivered and dead.

    All figures count messages, except "batches", which counts the batches that
    the ready messages fill. p50, p95 and p99 are percentiles of the time from the
    call to the delivery, of what was delivered within the last hour; with --watch,
    within the last minute. Messages that violated a tracking plan are counted once
    there are any. Sources that are stored in Redis and are not configured
    are shown as well, unless sources are named.
    """
    app = app_of(ctx)
    look = _looks(app, names, by_shard=by_shard, watch=watch)
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
        with Workers(app) as workers:
            _watch(console, look, workers)


def _looks(
    app: Any, names: tuple[str, ...], *, by_shard: bool, watch: bool
) -> Callable[[], _Sources]:
    """Return what looks at the sources, each time that it is called."""
    chosen = source_names(app, names)
    runtime = runtime_of(app)
    others = () if names else tuple(find_unconfigured(runtime.topology, runtime.settings).figures)
    admins: dict[str, SourceAdmin] = {name: admin_of(runtime, name) for name in chosen}
    if by_shard and not runtime.captures:
        shards = [buffer for name in chosen for buffer in runtime.shards(name)]
        admins = {buffer.source.shard_name: buffer.admin for buffer in shards}
    windows = {name: Window() for name in admins} if watch else {}

    def look() -> _Sources:
        seen: _Sources = {}
        for name, admin in admins.items():
            figures = read_figures(admin, name)
            recent = windows[name].add(figures) if watch else of_the_last_hour(admin)
            seen[name] = _Seen(figures, recent)
        stored = figures_of(runtime.topology, runtime.settings, others) if others else {}
        unknown = Recent(rates=Rates() if watch else None)
        return seen | {name: _Seen(each, unknown, False) for name, each in stored.items()}

    return look


def _repeat(show: Callable[[], None]) -> None:
    while True:
        show()
        time.sleep(PERIOD)


def _json(sources: _Sources) -> dict[str, object]:
    return {
        name: msgspec.to_builtins(seen.figures)
        | (_recent_json(seen.recent) if seen.configured else {"configured": False})
        for name, seen in sources.items()
    }


def _recent_json(recent: Recent) -> dict[str, float | None]:
    rates = {} if recent.rates is None else recent.rates._asdict()
    return _percentiles(recent) | {f"{name}_per_second": rate for name, rate in rates.items()}


def _percentiles(recent: Recent) -> dict[str, float | None]:
    return {f"p{percent}": recent.latency.quantile(percent / 100) for percent in PERCENTILES}


def _watch(console: Console, look: Callable[[], _Sources], workers: Workers) -> None:
    # An error of the first read ends the command; a later one must not end the watch.
    seen: RenderableType = _table(look(), console)

    def show() -> None:
        nonlocal seen
        problem = Text()
        try:
            seen = _table(look(), console)
        except SegmentError as error:
            problem = Text(f"\n{one_line(str(error))}", "red")
        live.update(Group(seen, _workers(workers.found), problem), refresh=True)

    with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        _repeat(show)


def _workers(found: Present | None) -> Text:
    """Return the line about the workers."""
    if found is None:
        return Text("workers: asking them")
    if found.problem:
        return Text(f"workers: cannot be asked: {one_line(found.problem)}", "yellow")
    if not found.names:
        return Text("workers: none answers", "red")
    names = ", ".join(map(one_line, found.names[:NAMES]))
    more = f" and {len(found.names) - NAMES:,} more" if len(found.names) > NAMES else ""
    return Text(f"workers: {len(found.names):,}: {names}{more}")


def _table(sources: _Sources, console: Console) -> Table:
    """Return a table with one row per source; if it does not fit, with one column per source."""
    violate = any(seen.figures.violations for seen in sources.values())
    cells = {one_line(name): _cells(seen, violate=violate) for name, seen in sources.items()}
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


def _cells(seen: _Seen, *, violate: bool) -> dict[str, Text]:
    """Return a source's cells; that of violations where any source has them."""
    s = seen.figures
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
    if violate:
        figures["violations"] = sum(s.violations.values())
    cells = {label: Text(f"{number:,}") for label, number in figures.items()}
    cells["dead"].stylize("red" if s.dead.messages else "")
    cells["dropped"].stylize("red" if figures["dropped"] else "")
    if figures.get("violations"):
        cells["violations"].stylize("red")
    cells |= _recent_cells(seen.recent)
    cells["oldest"] = Text(duration(s.oldest) if s.waiting else "-", no_wrap=True)
    cells["gate"] = _gate(s) if seen.configured else _not_configured(s)
    return cells


def _recent_cells(recent: Recent) -> dict[str, Text]:
    """Return the rates, where the source is watched, and the percentiles."""
    rates = {} if recent.rates is None else recent.rates._asdict()
    texts = {f"{name}/s": rate if rate is None else f"{rate:,.1f}" for name, rate in rates.items()}
    for label, seconds in _percentiles(recent).items():
        texts[label] = seconds if seconds is None else brief_duration(seconds)
    return {label: Text(text or "-", no_wrap=True) for label, text in texts.items()}


def _not_configured(s: Snapshot) -> Text:
    owner = f" (of {one_line(s.owner)})" if s.owner else ""
    return Text(NOT_CONFIGURED.format(owner), "red")


def _gate(s: Snapshot) -> Text:
    """Return the gate's state, and whether calls are refused because Redis is full."""
    gate = one_line(str(s.gate))
    if s.refusing:
        full = "" if s.memory is None else f": Redis is {s.memory * 100:.0f} % full"
        return Text(f"{gate}; calls are refused{full}", "red")
    return Text(gate, "" if s.gate.state == "open" else "yellow")
