"""The entry of ``INSTALLED_APPS``."""

from __future__ import annotations

from django.apps import AppConfig

__all__ = ["SegmentConfig"]


class SegmentConfig(AppConfig):
    """Registers the calls as tasks, in web processes and workers, and the checks."""

    name = "celery_segment.contrib.django"
    label = "celery_segment"
    verbose_name = "Segment"

    def ready(self) -> None:
        """Import what registers itself."""
        import celery_segment  # noqa: F401
        from celery_segment.contrib.django import checks  # noqa: F401
