"""Judge whether the tracking plans of sources can be used, without a call that needs them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from celery_segment.errors import ConfigurationError
from celery_segment.operations.findings import Finding, of_error

if TYPE_CHECKING:
    from celery_segment.config import Source
    from celery_segment.producer import Plans

__all__ = ["of_plans"]


def of_plans(plans: Plans, sources: Sequence[Source]) -> Iterator[Finding]:
    """Judge the tracking plan of each source that has one.

    Args:
        plans: Reads and compiles them.
        sources: The sources.
    """
    for source in sources:
        if source.tracking_plan is None:
            continue
        try:
            plans.step(source)
        except ConfigurationError as error:
            yield of_error("plan", error, source.name)
        else:
            yield Finding("plan", source.name, "ok", "the tracking plan is valid")
