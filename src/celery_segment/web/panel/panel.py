"""What the pages are about: one application's sources."""

from __future__ import annotations

from typing import Any

from werkzeug.exceptions import NotFound

from celery_segment.errors import ConfigurationError
from celery_segment.operations.admin import SourceAdmin, admin_of
from celery_segment.operations.source import Analytics
from celery_segment.runtime import Runtime, runtime_of

__all__ = ["Panel"]


class Panel:
    """The sources of a Celery application.

    Args:
        app: The application.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

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
