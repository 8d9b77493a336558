"""Say what a value violates: the path and the rule, never the value."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from celery_segment.events.plan.model import Violation
from celery_segment.messages.paths import shown_key
from celery_segment.text import one_line

__all__ = ["violation_of"]

#: Values, or characters of a pattern, that are shown at most.
_VALUES, _CHARACTERS = 20, 200
_ARTICLES = {"array": "an", "object": "an", "integer": "an", "null": ""}


def violation_of(error: Any, judged: Any) -> Iterator[Violation]:
    """Return the violations that an error of jsonschema-rs stands for.

    Args:
        error: The error.
        judged: What was judged.
    """
    kind = error.kind
    rule = kind.name
    path = [*error.instance_path]
    if rule == "required":
        missing = [*path, kind.property]
        yield Violation(_shown(missing, judged, {*_named(error), missing[-1]}), rule, "is required")
    elif rule == "additionalProperties":
        for name in kind.unexpected:
            shown = _shown([*path, name], judged, _named(error))
            yield Violation(shown, rule, "is not in the tracking plan")
    else:
        yield Violation(_shown(path, judged, _named(error)), rule, _problem(rule, kind))


def _named(error: Any) -> set[str]:
    """Return the names of properties on the way to what is violated, which the plan has."""
    steps = [str(step) for step in error.schema_path]
    return {name for before, name in pairwise(steps) if before == "properties"}


def _problem(rule: str, kind: Any) -> str:
    say = _PROBLEMS.get(rule)
    return say(kind) if say else f"does not meet {rule!r} of the tracking plan"


def _types(kind: Any) -> str:
    names = [f"{_ARTICLES.get(name, 'a')} {name}".strip() for name in sorted(kind.types)]
    return f"must be {' or '.join(names)}"


def _choices(kind: Any) -> str:
    options = [repr(value) for value in kind.options]
    more = len(options) - _VALUES
    shown = ", ".join(options[:_VALUES])
    return f"must be one of {shown}" + (f" and {more} more" if more > 0 else "")


_PROBLEMS: dict[str, Any] = {
    "type": _types,
    "enum": _choices,
    "const": lambda kind: f"must be {kind.expected_value!r}",
    "pattern": lambda kind: f"must match the pattern {kind.pattern[:_CHARACTERS]}",
    "format": lambda kind: f"must have the format {kind.format}",
    "minimum": lambda kind: f"must be at least {kind.limit}",
    "maximum": lambda kind: f"must be at most {kind.limit}",
    "exclusiveMinimum": lambda kind: f"must be more than {kind.limit}",
    "exclusiveMaximum": lambda kind: f"must be less than {kind.limit}",
    "multipleOf": lambda kind: f"must be a multiple of {kind.multiple_of}",
    "minLength": lambda kind: f"must have at least {kind.limit} characters",
    "maxLength": lambda kind: f"must have at most {kind.limit} characters",
    "minItems": lambda kind: f"must have at least {kind.limit} items",
    "maxItems": lambda kind: f"must have at most {kind.limit} items",
    "minProperties": lambda kind: f"must have at least {kind.limit} keys",
    "maxProperties": lambda kind: f"must have at most {kind.limit} keys",
    "uniqueItems": lambda _: "must have no item twice",
    "falseSchema": lambda _: "must be left out",
}


def _shown(path: Sequence[Any], judged: Any, named: Collection[str]) -> str:
    """Return a path as text; a key that may be somebody's data is told by its place.

    Args:
        path: The path.
        judged: What it is in.
        named: Keys that are the plan's own.
    """
    parts: list[str] = []
    for step in path:
        if isinstance(step, int):
            parts.append(f"[{step}]")
            judged = judged[step] if isinstance(judged, list) else None
            continue
        keys = list(judged) if isinstance(judged, Mapping) else []
        place = keys.index(step) if step in keys else len(keys)
        parts.append(f".{one_line(step) if step in named else shown_key(step, place)}")
        judged = judged.get(step) if isinstance(judged, Mapping) else None
    return "".join(parts).removeprefix(".") or "message"
