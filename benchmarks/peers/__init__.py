"""The peers, each in its own words; they run in an environment without celery-segment."""
