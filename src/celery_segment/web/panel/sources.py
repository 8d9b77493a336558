"""The first page: all sources, and how each is doing."""

from __future__ import annotations

from dataclasses import dataclass, field

from celery_segment.buffer import Snapshot
from celery_segment.errors import SegmentError
from celery_segment.operations.reading import read_figures
from celery_segment.web.panel.history import Recent, recent_of
from celery_segment.web.panel.panel import Panel
from celery_segment.web.visit import Page, Visit

__all__ = ["show"]


@dataclass(frozen=True, slots=True)
class _Row:
    """A source.

    Attributes:
        name: Its name.
        figures: Its figures; None where they cannot be read.
        recent: What it did lately.
        error: Why its figures cannot be read.
    """

    name: str
    figures: Snapshot | None = None
    recent: Recent = field(default_factory=Recent)
    error: SegmentError | None = None


def show(panel: Panel, visit: Visit) -> Page:  # noqa: ARG001 - as all pages
    """Show the sources.

    Raises:
        SegmentError: No source can be read.
    """
    rows = [_read(panel, name) for name in panel.runtime.settings.sources]
    errors = [row.error for row in rows if row.error is not None]
    if errors and len(errors) == len(rows):
        raise errors[0]
    values = {"rows": rows, "unconfigured": panel.unconfigured.latest() or []}
    return Page("panel/sources.html", "Sources", values)


def _read(panel: Panel, name: str) -> _Row:
    admin = panel.admin(name)
    try:
        return _Row(name, read_figures(admin, name), recent_of(admin.history(1)))
    except SegmentError as error:
        return _Row(name, error=error)
