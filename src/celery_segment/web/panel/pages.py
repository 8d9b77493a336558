"""The panel's pages and actions, each with its place."""

from __future__ import annotations

from functools import partial
from typing import Any

from celery_segment.web.panel import gate, source, sources
from celery_segment.web.panel.panel import Panel
from celery_segment.web.site import Route, Site

__all__ = ["panel_site"]

_PAGES = (
    ("/", "sources", sources.show),
    ("/sources/<name>", "source", source.show),
)
_ACTIONS = (
    ("/sources/<name>/pause", "pause", gate.pause),
    ("/sources/<name>/resume", "resume", gate.resume),
    ("/sources/<name>/flush", "flush", gate.flush),
)


def panel_site(app: Any) -> Site:
    """Return the panel of a Celery application.

    Args:
        app: The application.
    """
    panel = Panel(app)
    routes = [Route(rule, name, partial(show, panel)) for rule, name, show in _PAGES]
    routes += [Route(rule, name, partial(act, panel), changes=True) for rule, name, act in _ACTIONS]
    return Site("Segment", routes, [("sources", "Sources")])
