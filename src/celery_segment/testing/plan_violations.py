"""Tell a test of the violations of tracking plans by its calls."""

from __future__ import annotations

from collections.abc import Sequence

from celery_segment.producer.watched_plans import Violated
from celery_segment.testing.expectation import lines
from celery_segment.text import counted

__all__ = ["such", "told"]


def such(
    violations: Sequence[Violated], event: str | None, path: str | None, rule: str | None
) -> list[Violated]:
    """Return the violations by an event, at a path, of a rule; None stands for any."""
    return [
        each
        for each in violations
        if event in (None, each.event) and path in (None, each.path) and rule in (None, each.rule)
    ]


def told(violations: Sequence[Violated], expected: tuple[str | None, ...] | None = None) -> str:
    """Return the text of the error about violations, or about the lack of one that is expected."""
    if expected is None:
        text = f"{counted(len(violations), 'violation')} of the tracking plan:"
        return text + lines([str(each) for each in violations]) + _hint(violations[0])
    names = zip(("event", "path", "rule"), expected, strict=True)
    what = ", ".join(f"{name} {value!r}" for name, value in names if value is not None)
    text = f"no call violates the tracking plan{f' ({what})' if what else ''}"
    return f"{text}; there are:{lines([str(each) for each in violations])}" if violations else text


def _hint(first: Violated) -> str:
    event = f"{first.event!r}, " if first.event else ""
    return (
        "\nWhere a test means one: with segment_outbox.expect_violation("
        f"{event}path={first.path!r}):"
    )
