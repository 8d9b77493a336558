"""Read a tracking plan from JSON, in any of the forms in which Segment gives it.

1. The Public API's, which its endpoints for tracking plans and their rules return: ``rules`` is a
   list of objects with ``key``, ``type``, ``version`` and ``jsonSchema``, a schema of the message.
2. Typewriter's ``plan.json``: the same, where ``jsonSchema`` is the schema of the properties or
   traits themselves.
3. The former Config API's: ``rules`` is an object with ``events``, ``identify``, ``group`` and
   ``global``. Older files of Typewriter have ``events`` alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from celery_segment.errors import ConfigurationError
from celery_segment.events.plan.model import COMMON, TRAITS, TYPES, Plan, Rule

__all__ = ["parse_plan", "read_plan"]

#: The fields of a message that a schema of the message may name.
_PARTS = frozenset({"properties", "traits", "context"})
_DRAFT = "http://json-schema.org/draft-07/schema#"
_FORMS = (
    "it must have rules: a list, as Segment's Public API returns it and `segment plan pull` writes"
    " it, or an object with events"
)


def read_plan(path: str | Path) -> Plan:
    """Return the plan in a file.

    Raises:
        ConfigurationError: The file cannot be read, or has no plan.
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        # A decoding error quotes none of the file.
        raise ConfigurationError(f"{path} is not JSON: {error}") from None
    try:
        return parse_plan(content)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error.problem}", hint=error.hint) from None


def parse_plan(content: Any) -> Plan:
    """Return the plan in decoded JSON.

    Raises:
        ConfigurationError: It is none, or a rule is not valid; the error has the rule's place.
    """
    if isinstance(content, Mapping) and isinstance(content.get("data"), Mapping):
        content = content["data"]
    if not isinstance(content, Mapping):
        raise ConfigurationError("not a tracking plan", hint=_FORMS)
    about = content.get("trackingPlan", content)
    name = about.get("display_name") or about.get("name") if isinstance(about, Mapping) else ""
    rules: dict[tuple[str, str, int], Rule] = {}
    for place, rule in _rules(content):
        if rule.id in rules:
            raise ConfigurationError(f"{place}: there is another rule for {rule}")
        rules[rule.id] = rule
    return Plan(name if isinstance(name, str) else "", tuple(rules[id_] for id_ in sorted(rules)))


def _rules(content: Mapping[str, Any]) -> Iterator[tuple[str, Rule]]:
    """Return the rules, each with its place in the file."""
    given = content.get("rules", content if "events" in content else None)
    if isinstance(given, list):
        for index, entry in enumerate(given):
            place = f"rules[{index}]"
            yield place, _rule(place, _object(place, entry))
    elif isinstance(given, Mapping):
        yield from _former_rules("rules." if "rules" in content else "", given)
    else:
        raise ConfigurationError("not a tracking plan", hint=_FORMS)


def _rule(place: str, entry: Mapping[str, Any]) -> Rule:
    given = entry.get("type")
    kind = given.lower() if isinstance(given, str) else ""
    if kind not in TYPES:
        known = ", ".join(each.upper() for each in TYPES)
        raise ConfigurationError(f"{place}.type must be one of {known}")
    key = entry.get("key") or ""
    name = "" if kind in TRAITS or kind == COMMON else key
    if not isinstance(name, str) or (kind == "track" and not name):
        raise ConfigurationError(f"{place}.key must be the name of the event")
    version = _version(f"{place}.version", entry.get("version"))
    if "jsonSchema" not in entry:
        raise ConfigurationError(f"{place}.jsonSchema is missing")
    schema = _schema(f"{place}.jsonSchema", entry["jsonSchema"])
    part = "traits" if kind in TRAITS else "properties"
    return Rule(kind, name, version, schema if _is_wrapped(schema) else _wrapped(schema, part))


def _former_rules(prefix: str, given: Mapping[str, Any]) -> Iterator[tuple[str, Rule]]:
    events = given.get("events", [])
    if not isinstance(events, list):
        raise ConfigurationError(f"{prefix}events must be a list")
    for index, event in enumerate(events):
        place = f"{prefix}events[{index}]"
        entry = _object(place, event)
        if not isinstance(entry.get("name"), str) or not entry["name"]:
            raise ConfigurationError(f"{place}.name must be the name of the event")
        version = _version(f"{place}.version", entry.get("version"))
        schema = _schema(f"{place}.rules", entry.get("rules", {}))
        yield place, Rule("track", entry["name"], version, _described(schema, entry))
    for name in ("identify", "group", "global"):
        if given.get(name):
            place = f"{prefix}{name}"
            kind = COMMON if name == "global" else name
            yield place, Rule(kind, "", 1, _schema(place, given[name]))
    for name in ("identify_traits", "group_traits"):
        if given.get(name):
            raise ConfigurationError(
                f"{prefix}{name} is not supported",
                hint="get the plan from the Public API with `segment plan pull`",
            )


def _object(place: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{place} must be an object")
    return value


def _version(place: str, value: Any) -> int:
    if value is None:
        return 1
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or value < 0:
        raise ConfigurationError(f"{place} must be a whole number")
    return value


def _schema(place: str, value: Any) -> dict[str, Any]:
    schema = dict(_object(place, value))
    _check_form(place, schema)
    return {"$schema": _DRAFT, **schema}


#: What the values of keywords are, of which something else would have no meaning to go on with.
_NAMES = ("properties", "definitions", "$defs")
_ALTERNATIVES = ("anyOf", "oneOf", "allOf")
_TEXTS = ("type", "required")


def _check_form(place: str, schema: Any) -> None:
    """Raise ``ConfigurationError`` where a schema, or one within it, cannot be walked through.

    Whether it is valid in all else is seen where it is compiled to judge messages.
    """
    if not isinstance(schema, Mapping):
        return
    for key in (*_ALTERNATIVES, *_TEXTS, "enum"):
        given = schema.get(key, [])
        if not isinstance(given, list) and not (key == "type" and isinstance(given, str)):
            form = "a text or a list" if key == "type" else "a list"
            raise ConfigurationError(f"{place}.{key} must be {form}")
        if key in _TEXTS and not all(isinstance(each, str) for each in given):
            raise ConfigurationError(f"{place}.{key} must have texts alone")
    if not isinstance(schema.get("description", ""), str):
        raise ConfigurationError(f"{place}.description must be a text")
    for inner_place, inner in _schemas_in(place, schema):
        _check_form(inner_place, inner)


def _schemas_in(place: str, schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Return the schemas within one, each with its place."""
    for key in _NAMES:
        for name, inner in _object(f"{place}.{key}", schema.get(key, {})).items():
            yield f"{place}.{key}.{name}", inner
    for key in _ALTERNATIVES:
        for index, inner in enumerate(schema.get(key, ())):
            yield f"{place}.{key}[{index}]", inner
    for key in ("items", "additionalProperties"):
        yield f"{place}.{key}", schema.get(key)


def _described(schema: dict[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema with the description that stands beside it."""
    text = entry.get("description")
    return {"description": text, **schema} if isinstance(text, str) and text else schema


def _is_wrapped(schema: Mapping[str, Any]) -> bool:
    """Return whether a schema is that of a message, and not of its properties or traits.

    Of the first, the properties are fields of a message, which are objects.
    """
    parts = schema.get("properties", {})
    return bool(parts) and all(
        name in _PARTS and isinstance(part, Mapping) and part.get("type", "object") == "object"
        for name, part in parts.items()
    )


def _wrapped(schema: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Return the schema of a message, given that of its properties or traits.

    What the schema refers to by its place from the root stays there.
    """
    at_root = {"$schema", "description", "definitions", "$defs"}
    inner = {name: value for name, value in schema.items() if name not in at_root}
    outer = {name: value for name, value in schema.items() if name in at_root}
    return {**outer, "type": "object", "properties": {part: inner}, "required": [part]}
