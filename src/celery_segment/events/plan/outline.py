"""Lay a plan out as the classes that are generated from it, each with a flat schema."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from celery_segment.errors import ConfigurationError
from celery_segment.events.plan.kinds import kinds_of
from celery_segment.events.plan.model import Plan, Rule
from celery_segment.events.plan.naming import class_name, field_names, unique
from celery_segment.events.plan.references import at

__all__ = ["Class", "content_of", "outline"]

#: Names that a generated module imports.
_TAKEN = frozenset(
    {"Annotated", "Any", "Event", "Literal", "Meta", "Properties", "Traits", "UNSET", "UUID"}
    | {"UnsetType", "False", "None", "True"}
)
_BASES = {"track": "Event", "identify": "Traits", "group": "Traits"}
_TITLES = {"identify": "User Traits", "group": "Group Traits"}
#: What the name of no field can have: a property whose name has it is left to the plan.
_NO_FIELD = re.compile(r'[\\"\x00-\x1f\ud800-\udfff]')
#: Levels of objects within objects.
_DEEPEST = 50
#: Keywords whose values are no schemas.
_VALUES = frozenset({"const", "enum"})


@dataclass(frozen=True)
class Class:
    """A class that is generated.

    Attributes:
        name: Its name.
        base: The name of the class that it derives from.
        schema: Its schema, in which objects are references to other classes.
        fields: The names of its fields, by those of the properties.
        options: The arguments of the class statement.
        rule: The rule that it is for; None where it is for an object within others.
    """

    name: str
    base: str
    schema: Mapping[str, Any] = field(repr=False)
    fields: Mapping[str, str] = field(repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)
    rule: Rule | None = None


def outline(plan: Plan) -> list[Class]:
    """Return the classes for the rules of a plan, those of objects before those that have them.

    Raises:
        ConfigurationError: A schema refers to something that is not there.
    """
    versions = Counter((rule.type, rule.name) for rule in plan.events)
    made = _Outline(plan)
    for rule in plan.events:
        made.add_rule(rule, has_others=versions[rule.type, rule.name] > 1)
    return made.classes


def content_of(plan: Plan, rule: Rule) -> dict[str, Any]:
    """Return the schema of a rule's properties or traits, with what applies to all messages.

    Raises:
        ConfigurationError: It refers to something that is not there.
    """
    content = dict(_resolved(rule, rule.content, 0))
    for common in plan.common:
        _add_common(content, _resolved(common, common.of(rule.part), 0))
    return content


class _Outline:
    def __init__(self, plan: Plan) -> None:
        self.classes: list[Class] = []
        self._plan = plan
        self._taken = set(_TAKEN)

    def add_rule(self, rule: Rule, *, has_others: bool) -> None:
        title = _TITLES.get(rule.type, rule.name)
        if rule.type in ("page", "screen"):
            title = f"{title} {rule.type}"
        if has_others:
            title = f"{title} V{rule.version}"
        options: dict[str, Any] = {}
        if rule.type == "track":
            options["name"] = rule.name
            if has_others or rule.version != 1:
                options["version"] = rule.version
        content = content_of(self._plan, rule)
        text = rule.schema.get("description") or content.get("description")
        content["description"] = text or ""
        base = _BASES.get(rule.type, "Properties")
        self._add(self._name(title), base, content, options, rule)

    def _name(self, *titles: str) -> str:
        name = unique(class_name(*titles), self._taken)
        self._taken.add(name)
        return name

    def _add(
        self,
        name: str,
        base: str,
        schema: Mapping[str, Any],
        options: dict[str, Any],
        rule: Rule | None = None,
    ) -> None:
        named = schema.get("properties", {})
        properties = {each: named[each] for each in named if not _NO_FIELD.search(each)}
        flat: dict[str, Any] = {"description": schema.get("description") or ""}
        flat["required"] = [each for each in schema.get("required", ()) if each in properties]
        flat |= {
            "type": "object",
            "properties": {each: self._flat(name, each, properties[each]) for each in properties},
        }
        is_closed = schema.get("additionalProperties") is False
        if is_closed and not schema.get("patternProperties") and len(properties) == len(named):
            options["forbid_unknown_fields"] = True
        self.classes.append(Class(name, base, flat, field_names(properties), options, rule))

    def _flat(self, parent: str, title: str, schema: Any) -> dict[str, Any]:
        """Return what a type says of a schema, with references to classes for objects."""
        kinds = kinds_of(schema)
        is_nullable = kinds.pop("null", None) is not None
        choices = {kind: kinds.pop(kind) for kind in [*kinds] if "enum" in kinds[kind]}
        parts: list[dict[str, Any]] = []
        if choices:
            values = [value for said in choices.values() for value in said["enum"]]
            parts.append({"type": [*choices], "enum": values})
        parts += [self._one(parent, title, kind, said) for kind, said in kinds.items()]
        if is_nullable:
            _add_null(parts)
        about = schema.get("description") if isinstance(schema, Mapping) else None
        flat = parts[0] if len(parts) == 1 else {"anyOf": parts} if parts else {}
        return {**flat, "description": about} if about and isinstance(about, str) else flat

    def _one(self, parent: str, title: str, kind: str, said: dict[str, Any]) -> dict[str, Any]:
        """Return what a type says of values of one kind."""
        if said.get("properties"):
            name = self._name(parent, title)
            self._add(name, "Properties", said, {})
            return {"$ref": f"#/definitions/{name}"}
        flat = {"type": kind, **said}
        for key, what in (("items", "item"), ("additionalProperties", "value")):
            if key in said:
                flat[key] = self._flat(parent, f"{title} {what}", said[key])
        return flat


def _add_null(parts: list[dict[str, Any]]) -> None:
    """Add null to alternatives: to the only one, where it can say it itself."""
    if len(parts) != 1 or parts[0].get("type", "object") == "object":
        parts.append({"type": "null"})
        return
    part = parts[0]
    types = part["type"]
    part["type"] = [*([types] if isinstance(types, str) else types), "null"]
    if "enum" in part:
        part["enum"] = [*part["enum"], None]


def _add_common(content: dict[str, Any], common: Mapping[str, Any]) -> None:
    """Add to a schema what the rules for all messages say; its own properties win."""
    given = common.get("properties", {})
    if given:
        content["properties"] = {**given, **content.get("properties", {})}
    if common.get("required"):
        content["required"] = [*dict.fromkeys([*content.get("required", ()), *common["required"]])]


def _resolved(rule: Rule, schema: Any, depth: int, within: tuple[str, ...] = ()) -> Any:
    """Return a schema in which what it refers to stands in place of the reference.

    Where it refers to what it is within, or is very deep, no class can have it: it may be anything.
    """
    if isinstance(schema, list):
        return [_resolved(rule, each, depth + 1, within) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    reference = schema.get("$ref")
    if depth > _DEEPEST or reference in within:
        return {}
    if isinstance(reference, str):
        found = at(rule.schema, reference)
        if found is None:
            problem = f"the schema of {rule} refers to {reference}, which is not in it"
            raise ConfigurationError(problem)
        return _resolved(rule, found, depth + 1, (*within, reference))
    resolved = {
        key: value if key in _VALUES else _resolved(rule, value, depth + 1, within)
        for key, value in schema.items()
        if key != "properties"  # which has names, and no keywords
    }
    named = schema.get("properties", {})
    properties = {name: _resolved(rule, named[name], depth + 1, within) for name in named}
    return {**resolved, "properties": properties}
