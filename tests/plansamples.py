"""Valid and invalid contents for the schemas of a tracking plan, made of the schemas."""

from __future__ import annotations

import copy

#: A value of each type, which no schema of the tests' plans refuses unless by its type.
VALUES = {
    "string": "Folio",
    "integer": 8,
    "number": 8.5,
    "boolean": True,
    "array": [],
    "object": {},
    "null": None,
}


def types_of(schema):
    given = schema.get("type", [])
    return [given] if isinstance(given, str) else list(given)


def valid(schema):
    """A value that a schema accepts, with all that it names."""
    if "enum" in schema:
        return schema["enum"][0]
    kind = next(iter(types_of(schema)), "string")
    if kind == "object":
        return {name: valid(inner) for name, inner in schema.get("properties", {}).items()}
    if kind == "array":
        items = schema.get("items")
        return [valid(items)] if items else []
    if schema.get("format") == "date-time":
        return "2026-03-01T09:30:00Z"
    if "maxLength" in schema:
        return "ab"
    return VALUES[kind]


def invalid(schema):
    """Values that a schema refuses, each with the path to what is wrong with it."""
    kinds = types_of(schema)
    if "enum" in schema:
        yield (), "Octavo"
        yield (), 77
        return
    for kind, value in VALUES.items():
        fits = kind in kinds or (kind == "integer" and "number" in kinds)
        if kinds and not fits:
            yield (), value
    if "pattern" in schema:
        yield (), "Octavo"
    if schema.get("format") == "date-time":
        yield (), "yesterday"
        yield (), "2026-03-01T09:30:00"
    for keyword, value in _BEYOND.items():
        if keyword in schema:
            yield (), value(schema[keyword])
    yield from _invalid_inside(schema)


#: For each bound, a value that is beyond it.
_BEYOND = {
    "minimum": lambda bound: bound - 1,
    "maximum": lambda bound: bound + 1,
    "exclusiveMinimum": lambda bound: bound,
    "minLength": lambda bound: "x" * (bound - 1),
    "maxLength": lambda bound: "x" * (bound + 1),
    "minItems": lambda bound: ["x"] * (bound - 1),
    "maxItems": lambda bound: ["x"] * (bound + 1),
}


def _invalid_inside(schema):
    whole = valid(schema)
    for name, inner in schema.get("properties", {}).items():
        for path, value in invalid(inner):
            yield (name, *path), {**copy.deepcopy(whole), name: value}
    for name in schema.get("required", ()):
        yield (name,), {key: value for key, value in whole.items() if key != name}
    if schema.get("additionalProperties") is False:
        yield ("unplanned",), {**whole, "unplanned": 1}
    if isinstance(schema.get("additionalProperties"), dict):
        for path, value in invalid(schema["additionalProperties"]):
            yield ("any", *path), {**whole, "any": value}
    if isinstance(schema.get("items"), dict):
        for path, value in invalid(schema["items"]):
            yield (0, *path), [value]
