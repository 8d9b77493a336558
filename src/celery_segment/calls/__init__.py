"""The six calls: their signatures, their Celery tasks, and their results."""
