"""Read what a source has, unless a newer release has stored it."""

from __future__ import annotations

from celery_segment.buffer import Snapshot, check_format
from celery_segment.operations.admin import SourceAdmin

__all__ = ["read_figures"]


def read_figures(admin: SourceAdmin, source: str) -> Snapshot:
    """Return the figures of a source, or of a shard.

    Raises:
        ConfigurationError: It is stored in a format that this release does not read.
    """
    figures = admin.snapshot()
    check_format(source, figures.format)
    return figures
