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
        """Import what registers the tasks and the checks, and what the first call needs."""
        import celery_segment  # noqa: F401
        from celery_segment.buffer import load_client
        from celery_segment.contrib.django import checks, testing  # noqa: F401
        from celery_segment.producer.recording import watch

        watch(testing.is_testing, testing.is_view_alone)
        load_client()
