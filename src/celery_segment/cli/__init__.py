"""The operator's commands, a module each; ``celery_segment_cli`` is their entry point."""
