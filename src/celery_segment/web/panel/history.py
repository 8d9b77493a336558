"""What a source did lately: rates, percentiles, charts and tables of its history."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import groupby
from operator import add

from celery_segment.buffer import Latency, Period
from celery_segment.buffer.history import SECONDS
from celery_segment.text import duration

__all__ = ["Chart", "Recent", "chart_of", "recent_of", "steps_of"]

#: The periods of which rates and percentiles are: the present one, and the one before.
LATELY = 2


@dataclass(frozen=True, slots=True)
class Recent:
    """What a source did in the last five to ten minutes.

    Attributes:
        accepted: Messages stored, per second.
        delivered: Messages delivered, per second.
        latency: How long those took; of the last hour, where none was delivered lately.
        is_of_hour: Whether it is of the last hour.
        bars: The messages delivered in each of the last periods, as heights from 0 to 1.
    """

    accepted: float = 0.0
    delivered: float = 0.0
    latency: Latency = field(default_factory=Latency)
    is_of_hour: bool = False
    bars: Sequence[float] = ()


def recent_of(periods: Sequence[Period]) -> Recent:
    """Return what a source did lately, given its last hour's history."""
    if not periods:
        return Recent()
    lately = periods[-LATELY:]
    # Redis' clock and this host's may differ.
    passed = min(max(time.time() - lately[-1].start, 1.0), SECONDS)
    seconds = passed + SECONDS * (len(lately) - 1)
    latency = Latency.sum_of(period.latency for period in lately)
    is_of_hour = not latency.count
    if is_of_hour:
        latency = Latency.sum_of(period.latency for period in periods)
    most = max(period.delivered for period in periods) or 1
    return Recent(
        sum(period.accepted for period in lately) / seconds,
        sum(period.delivered for period in lately) / seconds,
        latency,
        is_of_hour and bool(latency.count),
        [period.delivered / most for period in periods],
    )


@dataclass(frozen=True, slots=True)
class Bar:
    """A period in a chart. All is in hundredths of the chart's height, but for the places.

    Attributes:
        x: Where it begins.
        width: How wide it is.
        delivered: The height of what was delivered.
        buried: That of what became dead letters, which stands on top.
        accepted: That of what was stored.
        title: What was counted, for people.
    """

    x: float
    width: float
    delivered: float
    buried: float
    accepted: float
    title: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart of a history, 1,000 wide and 100 high.

    Attributes:
        bars: The periods.
        line: The points of what was stored, for an SVG polyline.
        top: What its height stands for, in messages per period.
        hours: Its hours.
    """

    bars: Sequence[Bar]
    line: str
    top: int
    hours: int


#: The width of a chart, the height, and the share of a period that its bar leaves empty.
_WIDTH, _HEIGHT, _GAP = 1_000.0, 100.0, 0.15


def chart_of(periods: Sequence[Period], hours: int) -> Chart:
    """Return a chart of a history."""
    top = max((max(p.accepted, p.delivered + p.buried) for p in periods), default=0)
    scale, width = _HEIGHT / (top or 1), _WIDTH / (len(periods) or 1)
    bars = [
        Bar(
            round(n * width + width * _GAP / 2, 1),
            round(width * (1 - _GAP), 1),
            round(p.delivered * scale, 1),
            round(p.buried * scale, 1),
            round(p.accepted * scale, 1),
            _title(p, len(periods) - n),
        )
        for n, p in enumerate(periods)
    ]
    points = (
        f"{x * width:.1f},{_HEIGHT - bar.accepted:.1f}"
        for n, bar in enumerate(bars)
        for x in (n, n + 1)
    )
    return Chart(bars, " ".join(points), top, hours)


def _title(period: Period, back: int) -> str:
    counts = f"accepted {period.accepted:,}, delivered {period.delivered:,}"
    return f"{duration(back * SECONDS)} ago: {counts}, given up {period.buried:,}"


@dataclass(frozen=True, slots=True)
class Step:
    """Some periods of a history together, a row of a table.

    Attributes:
        total: What was counted in all of them.
        attempts: Their requests by status, in the order of the table's columns.
    """

    total: Period
    attempts: Sequence[int]


def steps_of(periods: Sequence[Period], seconds: int) -> tuple[list[str], list[Step]]:
    """Return the statuses that any request had, and the steps of so long each, newest first."""
    parts = groupby(periods, key=lambda period: period.start // seconds)
    totals = [reduce(add, part) for _, part in parts]
    statuses = sorted({status for total in totals for status in total.attempts})
    counts = ([total.attempts.get(status, 0) for status in statuses] for total in totals)
    return statuses, [Step(*each) for each in zip(totals, counts, strict=True)][::-1]
