"""What celery-segment costs, beside its peers, in one run: ``make bench``."""
