"""Decide what becomes of a message under a plan. The decision is a value: nothing is done here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from celery_segment.events.plan.model import COMMON, Plan, Rule, Violation

__all__ = ["ACTIONS", "SEND", "Decision", "Policy", "omit_unplanned"]

#: What may become of a message that violates a plan; from the mildest on.
ACTIONS = ("allow", "log", "raise", "quarantine")


@dataclass(frozen=True)
class Policy:
    """What a source's settings say of messages that violate its plan.

    Attributes:
        on_unplanned: What becomes of a message for which the plan has no rule.
        on_violation: What becomes of one that violates its rule.
        omit_unplanned: Whether properties and traits that the plan does not name are left out.
    """

    on_unplanned: str
    on_violation: str
    omit_unplanned: bool = False

    def decide(self, violations: Sequence[Violation]) -> Decision:
        """Return what becomes of a message, given how it violates the plan."""
        if not violations:
            return SEND
        unplanned = violations[0].is_unplanned
        action = self.on_unplanned if unplanned else self.on_violation
        return Decision(action, tuple(violations))


@dataclass(frozen=True)
class Decision:
    """What becomes of a message.

    Attributes:
        action: One of ``ACTIONS``. "allow" and "log" send it.
        violations: How it violates the plan.
    """

    action: str
    violations: tuple[Violation, ...] = field(default=(), repr=False)

    @property
    def reason(self) -> str:
        """Why, in a line."""
        if not self.violations:
            return ""
        more = len(self.violations) - 1
        return f"{self.violations[0]}" + (f" (and {more} more)" if more else "")


SEND = Decision("allow")


def omit_unplanned(plan: Plan, rule: Rule, message: Mapping[str, Any]) -> dict[str, Any] | None:
    """Leave the properties or traits out that a plan does not name, those of objects within too.

    An object for which the plan names none may have any.

    Returns:
        The message without them; None where there are none.
    """
    part = rule.part
    value = message.get(part)
    if not isinstance(value, Mapping):
        return None
    common = [each.of(part) for each in plan.rules if each.type == COMMON]
    kept, count = _kept(value, [rule.content, *common])
    return {**message, part: kept} if count else None


def _kept(value: Any, schemas: Sequence[Mapping[str, Any]]) -> tuple[Any, int]:
    """Return a value without what is not named, and how much that is."""
    if isinstance(value, list):
        items = [schema["items"] for schema in schemas if isinstance(schema.get("items"), Mapping)]
        kept = [_kept(each, items) for each in value]
        return [each for each, _ in kept], sum(count for _, count in kept)
    if not isinstance(value, Mapping) or not _is_closed(schemas):
        return value, 0
    content, omitted = {}, 0
    for name, inner in value.items():
        named = [schema["properties"][name] for schema in schemas if name in _names(schema)]
        if not named:
            omitted += 1
            continue
        kept, count = _kept(inner, [schema for schema in named if isinstance(schema, Mapping)])
        content[name], omitted = kept, omitted + count
    return content, omitted


def _names(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    names = schema.get("properties")
    return names if isinstance(names, Mapping) else {}


#: Keywords by which a schema allows keys that it does not name, or names them elsewhere.
_OPEN = ("patternProperties", "allOf", "anyOf", "oneOf", "if", "$ref")


def _is_closed(schemas: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether schemas name all keys that an object is to have."""
    return any(map(_names, schemas)) and not any(
        isinstance(schema.get("additionalProperties"), Mapping) or any(map(schema.get, _OPEN))
        for schema in schemas
    )
