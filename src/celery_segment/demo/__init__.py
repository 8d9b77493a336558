"""The whole of it on one machine: ``python -m celery_segment.demo``.

A shop's events go through Celery to an endpoint that fails now and then, while
a view in the terminal follows them; a ledger at the end says whether any was lost.
"""
