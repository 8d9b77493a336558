"""The first page: all sources, how each is doing."""

from __future__ import annotations

from dataclasses import dataclass

from celery_segment.buffer import Snapshot
from celery_segment.errors import SegmentError
from celery_segment.operations.reading import read_figures
from celery_segment.web.panel.panel import Panel
from celery_segment.web.visit import Page, Visit

__all__ = ["show"]


@dataclass(frozen=True, slots=True)
class _Row:
    """A source.

    Attributes:
        name: Its name.
        figures: Its figures; None where they cannot be read.
        error: Why they cannot be read.
    """

    name: str
    figures: Snapshot | None = None
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
    return Page("panel/sources.html", "Sources", {"rows": rows})


def _read(panel: Panel, name: str) -> _Row:
    try:
        return _Row(name, read_figures(panel.admin(name), name))
    except SegmentError as error:
        return _Row(name, error=error)
