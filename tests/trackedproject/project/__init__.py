"""A Django project that tracks; its suite, in shop/tests.py, knows nothing of it."""

from project.celery import app

__all__ = ["app"]
