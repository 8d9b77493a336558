"""What the pages are about: one application's sources and workers."""

from __future__ import annotations

from functools import partial
from typing import Any

from werkzeug.exceptions import NotFound

from celery_segment.errors import ConfigurationError, SegmentError
from celery_segment.operations.admin import SourceAdmin, admin_of
from celery_segment.operations.findings import Finding, of_error, of_unconfigured
from celery_segment.operations.health import check_workers
from celery_segment.operations.source import Analytics
from celery_segment.operations.unconfigured import find_unconfigured
from celery_segment.runtime import Runtime, runtime_of
from celery_segment.web.panel.background import Background

__all__ = ["Panel"]

#: Seconds after which the workers are asked again, and Redis is searched again for sources that
#: are not configured: that reads the names of all its keys.
ASK, SEARCH = 5.0, 300.0


class Panel:
    """The sources of a Celery application.

    Args:
        app: The application.

    Attributes:
        app: The application.
        workers: What the workers answered, and what is to be said of it.
        unconfigured: Findings about sources that are stored and not configured.
    """

    def __init__(self, app: Any) -> None:
        self.app = app
        sources = partial(_sources, app)
        self.workers = Background(lambda: check_workers(app, sources()), ASK)
        self.unconfigured = Background(partial(_find_unconfigured, app), SEARCH)

    @property
    def runtime(self) -> Runtime:
        """The runtime of the application."""
        return runtime_of(self.app)

    def source(self, name: str) -> Analytics:
        """Return a source's operations.

        Raises:
            NotFound: It is not configured.
        """
        names = self.runtime.settings.sources
        try:
            return Analytics(name, app=self.app)
        except ConfigurationError:
            if name in names:
                raise
            raise NotFound(f"There is no source {name!r} in segment_sources.") from None

    def admin(self, name: str) -> SourceAdmin:
        """Return what reads a source's figures and dead letters.

        Raises:
            NotFound: It is not configured.
        """
        return admin_of(self.runtime, self.source(name).source)


def _sources(app: Any) -> list[Any]:
    return list(runtime_of(app).settings.sources.values())


def _find_unconfigured(app: Any) -> list[Finding]:
    runtime = runtime_of(app)
    if runtime.captures:
        return []
    try:
        found = find_unconfigured(runtime.topology, runtime.settings)
    except SegmentError as error:
        return [of_error("sources", error)]
    return [each for each in of_unconfigured(found, app.main or "") if each.state != "ok"]
