"""A Django project as users have it; its tests are in tests/integration/web."""

from djangoproject.celery import app

__all__ = ["app"]
