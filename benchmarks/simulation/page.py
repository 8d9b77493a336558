"""The tables of docs/explanation/scaling.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.simulation.comparing import Compared, compare
from benchmarks.simulation.parameters import Costs, Measured
from benchmarks.simulation.planning import HOUR, PLANS, REQUESTS, Needs, needs

__all__ = ["PAGE", "costs", "plan", "points", "renew", "renewed"]

PAGE = Path(__file__).parents[2] / "docs/explanation/scaling.md"
#: A table of the page stands between two comments with its name.
_TABLE = "<!-- {0} -->\n{1}<!-- /{0} -->"


def renew(measured: Measured) -> None:
    """Write the tables into the page."""
    PAGE.write_text(renewed(PAGE.read_text(), measured))


def renewed(page: str, measured: Measured) -> str:
    """Return the page with the tables of a measurement.

    Raises:
        ValueError: The page has no place for one of them.
    """
    tables = {
        "points": points(measured, compare(measured)),
        "costs": costs(measured),
        "plan": plan(measured),
    }
    for name, lines in tables.items():
        table = _TABLE.format(name, "".join(f"{line}\n" for line in lines))
        page, count = re.subn(_TABLE.format(name, "[^<]*"), lambda _: table, page)  # noqa: B023
        if count != 1:
            raise ValueError(f"{PAGE.name} has {count} places for the table {name!r}")
    return page


def points(measured: Measured, compared: Sequence[Compared]) -> Iterator[str]:
    """Return the lines of the measured points beside the simulated ones."""
    yield measured.machine
    yield ""
    yield "| | measured, events/s | simulated | | |"
    yield "|---|---:|---:|---:|---|"
    for each in compared:
        use = "shows a cost" if each.point.calibrates else "predicted"
        use += "" if each.is_near else ", **missed**"
        numbers = f"{each.point.rate:,.0f} | {each.rate:,.0f} | {each.off:+.0%}"
        yield f"| {each.point.what.text} | {numbers} | {use} |"


def costs(measured: Measured) -> Iterator[str]:
    """Return the lines of the costs."""
    each, per = measured.costs, measured.costs.batch_events
    yield "| cost | |"
    yield "|---|---:|"
    yield f"| an append in Redis, one of many | {_us(each.redis_append)} |"
    yield f"| a call in its process | {_us(each.call)} |"
    yield f"| delivery of a full batch ({per:,} events), in Redis | {_us(_full(each, 'redis'))} |"
    yield f"| …, in the worker | {_us(_full(each, 'worker'))} |"
    yield f"| a task of a worker | {_us(each.worker_task)} |"
    yield f"| compressing a full batch of a backlog | {_us(each.compress_batch)} |"
    yield f"| round trips of a request | {each.request_trips:.1f} |"
    sizes = f"{each.event_bytes}, {each.command_bytes} bytes"
    yield f"| an event, and the command that appends it | {sizes} |"
    share = f"{each.compressed:.0%} of equal events, {each.compressed_varied:.0%} of varied ones"
    yield f"| compressed size | {share} |"


def _full(costs: Costs, where: str) -> float:
    batch, event = getattr(costs, f"{where}_batch"), getattr(costs, f"{where}_event")
    return float(batch + costs.batch_events * event)


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:,.1f} µs" if seconds < 1e-4 else f"{seconds * 1e3:,.2f} ms"


def plan(measured: Measured) -> Iterator[str]:
    """Return the lines of the worked example."""
    found = [needs(*each, measured.costs) for each in PLANS]
    yield f"| | {' | '.join(f'{each.rate:,} events/s' for each in found)} |"
    yield f"|---|{'---:|' * len(found)}"
    yield from (
        _row("`segment_max_requests_per_second`", found, lambda n: f"{n.limit:,}"),
        _row("delivered, events/s", found, lambda n: f"{n.delivered:,.0f}"),
        _row("shards, each on a primary of its own", found, lambda n: f"{n.shards}"),
        _row("how busy each Redis is", found, lambda n: f"{n.busy:.0%}"),
        _row(f"requests a second, of {REQUESTS:,}", found, lambda n: f"{n.requests:,.0f}"),
        _row("processes that deliver", found, lambda n: f"{n.processes}"),
        _row("cores that they use", found, lambda n: f"{n.cores:.1f}"),
        _row("into Redis, all together", found, lambda n: _rate(n.into_redis)),
        _row("out of Redis to the workers", found, lambda n: _rate(n.out_of_redis)),
        _row("to Segment, compressed (varied events)", found, lambda n: _rate(n.to_segment)),
        _row("Redis memory per hour of outage, equal events", found, lambda n: _gb(n.memory)),
        _row("…, varied events", found, lambda n: _gb(n.memory_varied)),
        _row("cores that compress it", found, lambda n: f"{n.compressing:.2f}"),
        _row("time to catch up on an hour", found, lambda n: _time(n.catching_up)),
    )


def _row(name: str, found: Sequence[Needs], text: Callable[[Needs], str]) -> str:
    return f"| {name} | {' | '.join(text(each) for each in found)} |"


def _rate(size: float) -> str:
    return f"{size * 8 / 1e9:,.2f} Gbit/s"


def _gb(size: float) -> str:
    return f"{size / 1e9:,.0f} GB"


def _time(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{hours * HOUR / 60:.0f} minutes"
