"""The page on which a person's messages are deleted."""

from __future__ import annotations

from celery_segment.errors import ValidationError
from celery_segment.operations.forget import Forgotten, summary_of
from celery_segment.web.panel.panel import Panel
from celery_segment.web.visit import Done, Page, Visit

__all__ = ["ask", "count", "forget"]


def ask(panel: Panel, visit: Visit, name: str) -> Page:
    """Show the form."""
    visit.need_change()
    return _page(visit, panel.source(name).source)


def count(panel: Panel, visit: Visit, name: str) -> Page:
    """Show how many messages the person has, before any is deleted."""
    try:
        return _page(visit, name, _forget(panel, visit, name, dry_run=True))
    except ValidationError as error:
        return _page(visit, name, problem=str(error), status=400)


def forget(panel: Panel, visit: Visit, name: str) -> Done:
    """Delete the person's messages."""
    found = _forget(panel, visit, name, dry_run=False)
    text = summary_of(found, dry_run=False)
    to = visit.url("forgetting", name=name)
    return Done(f"{text[:1].upper()}{text[1:]}.", to, name, failed=not found.is_complete)


def _forget(panel: Panel, visit: Visit, name: str, *, dry_run: bool) -> Forgotten:
    ids = {"user_id": _ids(visit, "user_ids"), "anonymous_id": _ids(visit, "anonymous_ids")}
    return panel.source(name).forget(**ids, dry_run=dry_run)


def _ids(visit: Visit, field: str) -> list[str]:
    """Return the ids of a field, one a line."""
    lines = visit.request.form.get(field, "").split("\n")
    return [line.strip() for line in lines if line.strip()]


def _page(
    visit: Visit, name: str, found: Forgotten | None = None, problem: str = "", status: int = 200
) -> Page:
    values = {
        "name": name,
        "user_ids": _ids(visit, "user_ids"),
        "anonymous_ids": _ids(visit, "anonymous_ids"),
        "found": found,
        "summary": found and summary_of(found, dry_run=True),
        "problem": problem,
    }
    return Page("panel/forget.html", f"Forget a person · {name}", values, status)
