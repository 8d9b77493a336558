"""Compare the classes of a program with a plan: where its calls would violate it, or are missing.

A class may be stricter than the plan: what it has beyond that is no drift.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from celery_segment.events import Event, Traits
from celery_segment.events.plan.diff import types_text
from celery_segment.events.plan.model import Plan, Rule
from celery_segment.events.plan.outline import outline
from celery_segment.events.plan.shape import Difference, Shape, differences, shape_of

__all__ = ["TRAITS", "classes_of", "drift"]

#: The names of the classes of traits, by the type of the messages.
TRAITS = {"identify": "UserTraits", "group": "GroupTraits"}


def drift(plan: Plan, classes: Iterable[type]) -> Iterator[str]:
    """Return a line for each thing in which classes and a plan differ, for who reviews them.

    Args:
        plan: The plan.
        classes: Classes of events, and the classes of traits that are named ``UserTraits`` and
            ``GroupTraits``; others are not compared.
    """
    planned = _planned(plan)
    seen: set[tuple[str, str, int]] = set()
    for cls in sorted(set(classes), key=_name):
        if issubclass(cls, Event):
            found = _version_of(planned, cls)
            if isinstance(found, str):
                yield f"{_name(cls)}: {found}"
            elif found is not None:
                seen.add(found[0].id)
                yield from _of_class(*found, cls)
        for kind, name in TRAITS.items():
            if issubclass(cls, Traits) and cls.__name__ == name and (kind, "") in planned:
                yield from _of_class(*planned[kind, ""][0], cls)
    for rule in plan.events:
        if rule.type == "track" and rule.id not in seen:
            yield f"{rule}: no class has it: generate the classes again, or add one"


#: The rules of an event from the oldest version on, each with what its class would take.
_Versions = Sequence[tuple[Rule, Shape]]


def _planned(plan: Plan) -> dict[tuple[str, str], list[tuple[Rule, Shape]]]:
    classes = outline(plan)
    root = {"definitions": {each.name: each.schema for each in classes}}
    planned: dict[tuple[str, str], list[tuple[Rule, Shape]]] = {}
    for each in classes:
        if each.rule is not None:
            own = (each.rule, shape_of(each.schema, root))
            planned.setdefault((each.rule.type, each.rule.name), []).append(own)
    return planned


def _version_of(
    planned: Mapping[tuple[str, str], _Versions], cls: type[Event]
) -> tuple[Rule, Shape] | str | None:
    """Return the rule that a class is for, or what is wrong; None for a base of other classes."""
    name, version = cls.__segment_name__, cls.__segment_version__
    if name is None:
        return None
    versions = planned.get(("track", name))
    if versions is None:
        return f"the plan has no event {name!r}: rename it, or add it to the plan"
    for rule, shape in versions:
        if version in (None, rule.version):
            return rule, shape
    known = ", ".join(str(rule.version) for rule, _ in versions)
    return f"the plan has no version {version} of {name!r}: it has {known}"


def _of_class(rule: Rule, planned: Shape, cls: type) -> Iterator[str]:
    for each in differences(planned, shape_of(msgspec.json.schema(cls)), rule.part):
        said = _said(each)
        if said:
            yield f"{_name(cls)}: {each.path}: {said}"


def _said(difference: Difference) -> str:  # noqa: PLR0911 - one for each kind
    """Return what a reviewer is told of a difference; nothing where the class is stricter."""
    planned, own = difference.old, difference.new
    match difference.what:
        case "added":
            return "is not in the plan: remove the field, or add it to the plan"
        case "removed":
            types, is_required = planned
            kind = f"{types_text(types)}{', required' if is_required else ''}"
            return f"is in the plan ({kind}), and not in the class: add the field"
        case "optional":
            return "is required by the plan: give the field no default"
        case "types" if not _is_within(own, planned):
            return f"is {types_text(planned)} in the plan, and {types_text(own)} in the class"
        case "choices" if planned is not None and (own is None or not own <= planned):
            allowed = ", ".join(sorted(planned))
            return f"is one of {allowed} in the plan: use Literal, or an enum"
        case "types" | "choices" | "required" | "closed" | "open":
            return ""
        case keyword if planned is None or _is_narrower(keyword, own, planned):
            return ""
        case keyword:
            has = "nothing" if own is None else own
            return f"has {keyword} {planned} in the plan, and {has} in the class"


def _is_within(own: frozenset[str], planned: frozenset[str]) -> bool:
    """Return whether all values of some types are of others: of none is any value."""
    if not planned:
        return True
    allowed = planned | {"integer"} if "number" in planned else planned
    return bool(own) and own <= allowed


def _is_narrower(keyword: str, own: Any, planned: Any) -> bool:
    """Return whether a bound of a class allows only what that of the plan does."""
    if own is None or not isinstance(planned, int | float):
        return False
    if keyword == "multipleOf":
        return bool(own % planned == 0)
    return bool(own >= planned if "min" in keyword.lower() else own <= planned)


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def classes_of(module: Any) -> list[type]:
    """Return the classes of events and traits that a module has, its own and imported ones."""
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Event | Traits)
        and value not in (Event, Traits)
    ]
