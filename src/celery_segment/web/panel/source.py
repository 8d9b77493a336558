"""The page of one source: its figures, its history, its shards."""

from __future__ import annotations

from celery_segment.buffer import Latency, Snapshot
from celery_segment.operations.reading import read_figures
from celery_segment.web.panel.history import chart_of, recent_of, steps_of
from celery_segment.web.panel.panel import Panel
from celery_segment.web.visit import Page, Visit

__all__ = ["show"]

#: Of how many hours a history may be, and of how many seconds the rows of its table are then.
_HOURS = {1: 300, 6: 1_800, 24: 3_600}
_DEFAULT = 6


def show(panel: Panel, visit: Visit, name: str) -> Page:
    """Show a source."""
    admin = panel.admin(name)
    figures = read_figures(admin, name)
    asked = visit.argument("hours") or ""
    hours = int(asked) if asked in {str(each) for each in _HOURS} else _DEFAULT
    periods = admin.history(hours)
    statuses, steps = steps_of(periods, _HOURS[hours])
    values = {
        "name": name,
        "figures": figures,
        "recent": recent_of(periods[-12:]),
        "latency": Latency.sum_of(period.latency for period in periods),
        "chart": chart_of(periods, hours),
        "choices": list(_HOURS),
        "statuses": statuses,
        "steps": steps,
        "violations": admin.violations() if figures.violations else [],
        "shards": _shards(panel, name),
    }
    return Page("panel/source.html", name, values)


def _shards(panel: Panel, name: str) -> list[tuple[str, Snapshot]]:
    """Return the figures of a source's shards, where there are several."""
    if panel.runtime.captures or len(shards := panel.runtime.shards(name)) == 1:
        return []
    return [(shard.source.shard_name, shard.admin.snapshot()) for shard in shards]
