"""For prometheus_client: the buffer's figures in a registry of your own.

::

    from prometheus_client import REGISTRY
    from celery_segment.contrib.prometheus import Collector

    REGISTRY.register(Collector(app))

See docs/how-to/monitoring.md.
"""

from __future__ import annotations

from celery_segment.operations.metrics import Collector

__all__ = ["Collector"]
