"""The page of the workers: how each is configured, and what does not fit."""

from __future__ import annotations

from celery_segment.web.panel.panel import Panel
from celery_segment.web.visit import Page, Visit

__all__ = ["show"]


def show(panel: Panel, visit: Visit) -> Page:  # noqa: ARG001 - as all pages
    """Show the workers, as they last answered."""
    found = panel.workers.latest()
    values = {"answers": found and found[0], "findings": found[1] if found else []}
    return Page("panel/workers.html", "Workers", values)
