"""The operator's commands, one per module; ``celery_segment_cli`` is their entry point."""
