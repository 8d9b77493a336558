"""Compare two plans."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from celery_segment.events.plan.model import Plan, Rule
from celery_segment.events.plan.shape import Difference, differences, shape_of

__all__ = ["diff", "types_text"]


def diff(old: Plan, new: Plan) -> Iterator[str]:
    """Return a line for each thing that the second of two plans has otherwise.

    It begins with "+" for a rule that is added, "-" for one that is removed, and "~" for a change.
    """
    before, after = ({rule.id: rule for rule in plan.rules} for plan in (old, new))
    for id_ in sorted({*before, *after}):
        if id_ not in before:
            yield f"+ {after[id_]}"
        elif id_ not in after:
            yield f"- {before[id_]}"
        else:
            yield from _changes(before[id_], after[id_])


def _changes(old: Rule, new: Rule) -> Iterator[str]:
    for part in ("properties", "traits", "context"):
        one, other = (shape_of(rule.of(part), rule.schema) for rule in (old, new))
        for each in differences(one, other, part):
            yield f"~ {new}: {each.path}: {_said(each)}"


def _said(difference: Difference) -> str:  # noqa: PLR0911 - one for each kind
    old, new = difference.old, difference.new
    match difference.what:
        case "added" | "removed":
            types, is_required = new or old
            return f"{difference.what} ({types_text(types)}{', required' if is_required else ''})"
        case "required" | "optional":
            return f"is {difference.what} now"
        case "closed":
            return "may have no other properties now"
        case "open":
            return "may have other properties now"
        case "types":
            return f"was {types_text(old)}, is {types_text(new)}"
        case "choices":
            return f"was {_choices(old)}, is {_choices(new)}"
        case keyword:
            return f"{keyword} was {_shown(old)}, is {_shown(new)}"


def types_text(types: frozenset[str]) -> str:
    """Return the types of JSON as text: "string or null"; none of them are any value."""
    return " or ".join(sorted(types, key=lambda each: (each == "null", each))) or "any"


def _choices(choices: frozenset[str] | None) -> str:
    return "any value" if choices is None else f"one of {', '.join(sorted(choices))}"


def _shown(value: Any) -> str:
    return "not given" if value is None else str(value)
