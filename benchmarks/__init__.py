"""Measure the costs of celery-segment and of other clients, in one run: ``make bench``."""
