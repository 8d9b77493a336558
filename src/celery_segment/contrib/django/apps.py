"""The Django app, for ``INSTALLED_APPS``."""

from __future__ import annotations

from django.apps import AppConfig

__all__ = ["SegmentConfig"]


class SegmentConfig(AppConfig):
    """Django app that registers the system checks and, in every process, the calls as tasks."""

    name = "celery_segment.contrib.django"
    label = "celery_segment"
    verbose_name = "Segment"

    def ready(self) -> None:
        """Import the modules that register the tasks and the checks."""
        import celery_segment  # noqa: F401
        from celery_segment.contrib.django import checks  # noqa: F401
