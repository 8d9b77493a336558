"""The panel's pages and actions, each with its place."""

from __future__ import annotations

from functools import partial
from typing import Any

from celery_segment.web.panel import dead, forgetting, gate, settling, source, sources, workers
from celery_segment.web.panel.panel import Panel
from celery_segment.web.site import Route, Site

__all__ = ["panel_site"]

_PAGES = (
    ("/", "sources", sources.show),
    ("/workers", "workers", workers.show),
    ("/sources/<name>", "source", source.show),
    ("/sources/<name>/dead", "dead", dead.show),
    ("/sources/<name>/dead/<path:batch>", "letter", dead.show_letter),
    ("/sources/<name>/export", "export", dead.export),
    ("/sources/<name>/forget", "forgetting", forgetting.ask),
)
_ACTIONS = (
    ("/sources/<name>/pause", "pause", gate.pause),
    ("/sources/<name>/resume", "resume", gate.resume),
    ("/sources/<name>/flush", "flush", gate.flush),
    ("/sources/<name>/replay", "replay", settling.replay),
    ("/sources/<name>/purge", "purge", settling.purge),
    ("/sources/<name>/forget/count", "count", forgetting.count),
    ("/sources/<name>/forget/delete", "forget", forgetting.forget),
)


def panel_site(app: Any) -> Site:
    """Return the panel of a Celery application.

    Args:
        app: The application.
    """
    panel = Panel(app)
    routes = [Route(rule, name, partial(show, panel)) for rule, name, show in _PAGES]
    routes += [Route(rule, name, partial(act, panel), changes=True) for rule, name, act in _ACTIONS]
    return Site("Segment", routes, [("sources", "Sources"), ("workers", "Workers")])
