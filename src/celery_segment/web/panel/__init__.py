"""The operator's panel: the sources, their dead letters, and the workers.

The pages read and do what the commands of ``celery segment`` do. ``panel_site`` makes them for an
application; a host shows them.
"""

from __future__ import annotations

from celery_segment.web.panel.pages import panel_site

__all__ = ["panel_site"]
