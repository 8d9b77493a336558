"""A configuration of Flower, which finds it where it is started."""

from celery_segment.contrib.flower import format_task, tasks_columns

__all__ = ["format_task", "tasks_columns"]
