"""The page of one source."""

from __future__ import annotations

from celery_segment.operations.reading import read_figures
from celery_segment.web.panel.panel import Panel
from celery_segment.web.visit import Page, Visit

__all__ = ["show"]


def show(panel: Panel, visit: Visit, name: str) -> Page:  # noqa: ARG001 - as all pages
    """Show a source's figures."""
    figures = read_figures(panel.admin(name), name)
    return Page("panel/source.html", name, {"name": name, "figures": figures})
