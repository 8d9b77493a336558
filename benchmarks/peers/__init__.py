"""The peers. They run in an environment without celery-segment."""
