"""Collector of the buffer's figures, for a prometheus_client registry of your own.

::

    from prometheus_client import REGISTRY
    from celery_segment.contrib.prometheus import Collector

    REGISTRY.register(Collector(app))

See docs/how-to/monitoring.md.
"""

from __future__ import annotations

from celery_segment.operations.metrics import Collector

__all__ = ["Collector"]
