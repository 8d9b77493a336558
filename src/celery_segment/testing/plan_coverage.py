"""Say which rules of the tracking plans have seen a message in a run of tests."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from celery_segment.errors import ConfigurationError
from celery_segment.events.plan.judging import Judge
from celery_segment.events.plan.model import Rule
from celery_segment.events.plan.reading import read_plan
from celery_segment.producer.watched_plans import Planned
from celery_segment.text import counted

__all__ = ["report"]


def report(seen: Iterable[tuple[Sequence[Any], int]]) -> Iterator[str]:
    """Yield the lines about each plan that a message was held to.

    Args:
        seen: What was seen of each message that is a ``Planned``, and how many there were.
    """
    total: Counter[Planned] = Counter()
    for fields, count in seen:
        total[Planned(*fields)] += count
    if not total:
        yield "no call was held to a tracking plan"
    for path in sorted({planned.path for planned in total}):
        here = {planned: count for planned, count in total.items() if planned.path == path}
        try:
            yield from _about(path, here)
        except ConfigurationError as error:
            yield str(error)


def _about(path: str, seen: dict[Planned, int]) -> Iterator[str]:
    judge = Judge(read_plan(path))
    by_rule: Counter[str] = Counter()
    unplanned: Counter[str] = Counter()
    types = {rule.type for rule in judge.plan.events}
    for planned, count in seen.items():
        rule = judge.rule_of(_message(planned))
        if rule is not None:
            by_rule[str(rule)] += count
        elif planned.type in types:
            unplanned[str(Rule(planned.type, planned.name))] += count
    rules = [str(rule) for rule in judge.plan.events]
    yield f"{_shown(path)}: {len(by_rule):,} of {counted(len(rules), 'rule')} seen"
    for title in rules:
        count = by_rule[title]
        yield f"  seen      {title}, {counted(count, 'call')}" if count else f"  not seen  {title}"
    for title, count in sorted(unplanned.items()):
        yield f"  unplanned {title}, {counted(count, 'call')}"


def _shown(path: str) -> str:
    """Return a path from the working directory on, if it is within."""
    here = os.path.relpath(path)
    return path if here.startswith(os.pardir) else here


def _message(planned: Planned) -> dict[str, Any]:
    """Return a message that has what its rule goes by."""
    name = "event" if planned.type == "track" else "name"
    context = (
        {"protocols": {"event_version": planned.version}} if planned.version is not None else {}
    )
    return {"type": planned.type, name: planned.name, "context": context}
