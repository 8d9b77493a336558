"""The configuration of Flower, which loads it from the directory in which it is started."""

from celery_segment.contrib.flower import format_task, tasks_columns

__all__ = ["format_task", "tasks_columns"]
