"""A shop on Django. It loads its Celery application, as Celery's documentation recommends."""

from shop.celery import app

__all__ = ["app"]
