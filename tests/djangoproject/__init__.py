"""A Django project as users have it; its test is tests/integration/test_django.py."""

from djangoproject.celery import app

__all__ = ["app"]
