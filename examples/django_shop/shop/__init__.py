"""A shop on Django. Its Celery application is loaded with it, as Celery's guide says."""

from shop.celery import app

__all__ = ["app"]
