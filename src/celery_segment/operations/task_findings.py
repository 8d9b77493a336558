"""Judge whether the calls of a task are the same messages in each worker. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from celery_segment.operations.findings import Finding
from celery_segment.text import one_line

if TYPE_CHECKING:
    from celery_segment.worker.interview import Facts

__all__ = ["of_tasks"]


def of_tasks(workers: Mapping[str, Facts], own: Facts) -> Iterator[Finding]:
    """Report where the calls of tasks get other ids, or another visitor, than by this process.

    Args:
        workers: The workers that may run the tasks of this process' application.
        own: The facts of this process.
    """
    for worker, facts in workers.items():
        if facts.application == own.application:
            yield from _idempotency(one_line(worker), facts, own)
            yield from _visitor(one_line(worker), facts, own)


def _idempotency(name: str, facts: Facts, own: Facts) -> Iterator[Finding]:
    theirs, mine = facts.idempotency, own.idempotency
    if theirs != mine:
        found = f"{name} has segment_idempotency {one_line(theirs)!r}; this process {mine!r}"
        hint = (
            "set it alike everywhere, and restart the workers: what a task tracks counts twice"
            " when another worker runs it again"
        )
        yield Finding("idempotency", None, "warn", found, hint)


def _visitor(name: str, facts: Facts, own: Facts) -> Iterator[Finding]:
    if own.propagates_visitor and not facts.propagates_visitor:
        found = f"{name} does not read the visitor that this process sends with a task"
        hint = "set segment_propagate_visitor there as well, and restart it"
        yield Finding("visitor", None, "warn", found, hint)
    elif facts.propagates_visitor and not own.propagates_visitor:
        found = f"this process sends no visitor with a task, and {name} expects one"
        hint = "set segment_propagate_visitor in all processes or in none, and restart them"
        yield Finding("visitor", None, "warn", found, hint)
