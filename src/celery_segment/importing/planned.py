"""Hold the records of an import to a tracking plan, whatever the source's policy is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from celery_segment.config import Source
from celery_segment.errors import ConfigurationError
from celery_segment.producer import Discard, Plans, Producer

__all__ = ["planned"]


def planned(source: Source, plan: str | bool) -> tuple[Producer, str]:
    """Return what prepares a source's messages and refuses those that violate a tracking plan.

    Args:
        source: The source.
        plan: The path of a plan, or True for the plan of the source.

    Returns:
        The producer, and the path of the plan.

    Raises:
        ConfigurationError: There is no plan, or it cannot be read, or is not valid.
    """
    path = source.tracking_plan if plan is True else str(plan)
    if path is None:
        raise ConfigurationError(
            f"source {source.name!r} has no tracking plan",
            hint="set segment_tracking_plan, or give the plan with --plan FILE",
        )
    strict = replace(source, tracking_plan=path, on_unplanned="raise", on_violation="raise")
    try:
        step = Plans().step(strict)
    except ConfigurationError as error:
        if plan is True:
            raise
        setting = f"segment_tracking_plan of source {source.name!r}"
        problem = error.problem.replace(setting, "--plan", 1)
        raise ConfigurationError(problem, hint=error.hint) from None
    producer = Producer(strict, Discard(), lambda: None, eager=False, delivers=False, plan=step)
    return producer, str(Path(path).absolute())
