"""A demo of the whole library on one machine: ``python -m celery_segment.demo``.

The events of a shop are delivered to an endpoint that fails for some requests, while a live
view shows the state. At the end, a ledger shows whether any message was lost.
"""
