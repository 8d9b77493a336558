"""Lay a plan out as the classes that are generated from it, each with a flat schema."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from celery_segment.errors import ConfigurationError
from celery_segment.events.plan.model import Plan, Rule
from celery_segment.events.plan.naming import class_name, field_names, unique
from celery_segment.events.plan.shape import json_type

__all__ = ["Class", "content_of", "outline"]

#: Names that a generated module imports.
_TAKEN = frozenset(
    {"Annotated", "Any", "Event", "Literal", "Meta", "Properties", "Traits", "UNSET", "UUID"}
    | {"UnsetType", "False", "None", "True"}
)
_BASES = {"track": "Event", "identify": "Traits", "group": "Traits"}
_TITLES = {"identify": "User Traits", "group": "Group Traits"}
#: What a schema says of the values, and a class can.
_KEYWORDS = frozenset(
    {"type", "enum", "const", "format", "pattern", "minLength", "maxLength", "minimum", "maximum"}
    | {"exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minItems", "maxItems", "required"}
    | {"minProperties", "maxProperties", "description"}
)
#: What can be said of a text, and not of a time.
_LENGTHS = frozenset({"pattern", "minLength", "maxLength"})
#: What the name of no field can have: a property whose name has it is left to the plan.
_NO_FIELD = re.compile(r'[\\"\x00-\x1f]')
#: Levels of objects within objects.
_DEEPEST = 50


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
        ConfigurationError: A schema refers to something that is not there, or to itself.
    """
    versions = Counter((rule.type, rule.name) for rule in plan.events)
    made = _Outline(plan)
    for rule in plan.events:
        made.add_rule(rule, has_others=versions[rule.type, rule.name] > 1)
    return made.classes


def content_of(plan: Plan, rule: Rule) -> dict[str, Any]:
    """Return the schema of a rule's properties or traits, with what applies to all messages.

    Raises:
        ConfigurationError: It refers to something that is not there, or to itself.
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
        properties = {
            each: inner
            for each, inner in schema.get("properties", {}).items()
            if not _NO_FIELD.search(each)
        }
        flat: dict[str, Any] = {"description": schema.get("description") or ""}
        flat["required"] = [each for each in schema.get("required", ()) if each in properties]
        flat |= {
            "type": "object",
            "properties": {each: self._flat(name, each, properties[each]) for each in properties},
        }
        if schema.get("additionalProperties") is False and not schema.get("patternProperties"):
            options["forbid_unknown_fields"] = True
        self.classes.append(Class(name, base, flat, field_names(properties), options, rule))

    def _flat(self, parent: str, title: str, schema: Any) -> dict[str, Any]:
        """Return a schema whose objects are references to classes of their own."""
        if not isinstance(schema, Mapping):  # true, or false
            return {}
        flat = _representable(schema)
        alternatives = schema.get("anyOf") or schema.get("oneOf") or []
        if alternatives and _can_be_told_apart(alternatives):
            flat["anyOf"] = [self._flat(parent, title, each) for each in alternatives]
        if isinstance(schema.get("items"), Mapping):
            flat["items"] = self._flat(parent, f"{title} item", schema["items"])
        inner = schema.get("additionalProperties")
        if isinstance(inner, Mapping) and _types(schema) == ["object"]:
            flat["additionalProperties"] = self._flat(parent, f"{title} value", inner)
        if not schema.get("properties"):
            return flat
        name = self._name(parent, title)
        self._add(name, "Properties", schema, {})
        reference = {"$ref": f"#/definitions/{name}"}
        others = [each for each in _types(schema) if each != "object"]
        about = {"description": flat["description"]} if "description" in flat else {}
        if not others:
            return {**reference, **about}
        rest = {key: value for key, value in flat.items() if key not in ("required", "description")}
        return {"anyOf": [reference, {**rest, "type": others}], **about}


def _representable(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a schema says of a value itself, as far as a type of Python can."""
    flat = {key: value for key, value in schema.items() if key in _KEYWORDS and value != ""}
    if "const" in flat:
        flat["enum"] = [flat.pop("const")]
    if "enum" in flat:
        flat["type"] = sorted({json_type(each) for each in flat["enum"]})
        if flat["type"] == ["null"] or not {*flat["type"]} <= {"string", "integer", "null"}:
            del flat["enum"]
    is_text = {*_types(flat, "any")} <= {"string", "null"}
    if flat.get("format") != "date-time" or not is_text or _LENGTHS & {*flat}:
        flat.pop("format", None)
    return flat


def _can_be_told_apart(alternatives: Sequence[Any]) -> bool:
    """Return whether a type of Python can be one of several: no two of them are of one kind."""
    kinds = [
        kind
        for each in alternatives
        for kind in (_types(_representable(each), "any") if isinstance(each, Mapping) else ["any"])
    ]
    return len({"number" if kind == "integer" else kind for kind in kinds}) == len(kinds)


def _types(schema: Mapping[str, Any], otherwise: str = "object") -> list[str]:
    given = schema.get("type", otherwise)
    return [given] if isinstance(given, str) else list(given)


def _add_common(content: dict[str, Any], common: Mapping[str, Any]) -> None:
    """Add to a schema what the rules for all messages say; its own properties win."""
    given = common.get("properties", {})
    if given:
        content["properties"] = {**given, **content.get("properties", {})}
    if common.get("required"):
        content["required"] = [*dict.fromkeys([*content.get("required", ()), *common["required"]])]


def _resolved(rule: Rule, schema: Any, depth: int) -> Any:
    """Return a schema in which what it refers to stands in place of the reference."""
    if depth > _DEEPEST:
        raise ConfigurationError(f"the schema of {rule} refers to itself, which no class can have")
    if isinstance(schema, list):
        return [_resolved(rule, each, depth + 1) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    reference = schema.get("$ref")
    if isinstance(reference, str):
        return _resolved(rule, _at(rule, reference), depth + 1)
    return {key: _resolved(rule, value, depth + 1) for key, value in schema.items()}


def _at(rule: Rule, reference: str) -> Any:
    found: Any = rule.schema
    for step in _steps(reference):
        found = found.get(step) if isinstance(found, Mapping) else None
    if found is None or not reference.startswith("#/"):
        raise ConfigurationError(f"the schema of {rule} refers to {reference}, which is not in it")
    return found


def _steps(reference: str) -> Iterator[str]:
    for step in reference.removeprefix("#/").split("/"):
        yield step.replace("~1", "/").replace("~0", "~")
