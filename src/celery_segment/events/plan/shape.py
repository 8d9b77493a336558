"""What schemas allow, in a form in which two can be compared: of a plan, or of a class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from celery_segment.events.plan.references import at

__all__ = ["Difference", "Shape", "differences", "json_type", "shape_of"]

#: Keywords about values that are compared as they are.
_KEYWORDS = (
    *("pattern", "format", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum"),
    *("exclusiveMaximum", "multipleOf", "minItems", "maxItems", "minProperties", "maxProperties"),
)
_TYPES = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    type(None): "null",
    list: "array",
}


@dataclass(frozen=True)
class Shape:
    """What a schema allows.

    Attributes:
        types: The types of JSON; none for any.
        keywords: What else it says of values.
        choices: The values that are allowed, as JSON; None for any.
        properties: The shapes of the properties of an object.
        required: Those that it must have.
        items: The shape of a list's items.
        values: The shape of properties that have no name.
        is_closed: Whether an object may have no others.
        repeats: Whether it is one that it is within, so that nothing of it is compared here.
    """

    types: frozenset[str] = field(default=frozenset(), repr=False)
    keywords: Mapping[str, Any] = field(default_factory=dict, repr=False)
    choices: frozenset[Any] | None = field(default=None, repr=False)
    properties: Mapping[str, Shape] = field(default_factory=dict, repr=False)
    required: frozenset[str] = field(default=frozenset(), repr=False)
    items: Shape | None = field(default=None, repr=False)
    values: Shape | None = field(default=None, repr=False)
    is_closed: bool = False
    repeats: bool = False


@dataclass(frozen=True)
class Difference:
    """A difference of two shapes.

    Attributes:
        path: The path of the property.
        what: "added", "removed", "types", "required", "optional", "choices", "closed", "open", or
            a keyword.
        old: What the first has.
        new: What the second has.
    """

    path: str
    what: str
    old: Any = field(default=None, repr=False)
    new: Any = field(default=None, repr=False)


def shape_of(
    schema: Any, root: Mapping[str, Any] | None = None, within: tuple[str, ...] = ()
) -> Shape:
    """Return what a schema allows.

    Args:
        schema: The schema.
        root: What its references start at.
        within: The references that it is within.
    """
    if not isinstance(schema, Mapping):
        return Shape()
    root = schema if root is None else root
    reference = schema.get("$ref")
    if isinstance(reference, str):
        if reference in within:
            return Shape(repeats=True)
        return shape_of(at(root, reference), root, (*within, reference))
    alternatives = schema.get("anyOf") or schema.get("oneOf")
    if alternatives:
        return _either([shape_of(each, root, within) for each in alternatives])
    options = [schema["const"]] if "const" in schema else schema.get("enum")
    if options == [None]:
        schema, options = {"type": "null"}, None
    if schema.get("format") == "decimal":  # as msgspec has it; the messages' are numbers
        schema = {"type": "number"}
    types = schema.get("type", [] if options is None else sorted({json_type(o) for o in options}))
    keywords = {key: _number(schema[key]) for key in _KEYWORDS if schema.get(key) is not None}
    inner = schema.get("additionalProperties")
    return Shape(
        types=frozenset([types] if isinstance(types, str) else types),
        keywords=keywords,
        choices=None if options is None else frozenset(map(repr, options)),
        properties={
            name: shape_of(each, root, within)
            for name, each in schema.get("properties", {}).items()
        },
        required=frozenset(schema.get("required", ())),
        items=shape_of(schema["items"], root, within) if schema.get("items") else None,
        values=shape_of(inner, root, within) if isinstance(inner, Mapping) and inner else None,
        is_closed=inner is False,
    )


def _either(shapes: list[Shape]) -> Shape:
    """Return the shape of what has one of several."""
    if any(shape.repeats for shape in shapes):
        return Shape(repeats=True)
    if not all(shape.types for shape in shapes):
        return Shape()
    choices: frozenset[Any] | None = frozenset()
    for shape in shapes:
        own = frozenset({"None"}) if shape.types == {"null"} else shape.choices
        choices = None if choices is None or own is None else choices | own
    types = frozenset().union(*(shape.types for shape in shapes))
    return Shape(
        types=types,
        keywords={key: value for shape in shapes for key, value in shape.keywords.items()},
        choices=None if types == {"null"} else choices,
        properties={name: each for shape in shapes for name, each in shape.properties.items()},
        required=frozenset().union(*(shape.required for shape in shapes)),
        items=next((shape.items for shape in shapes if shape.items), None),
        values=next((shape.values for shape in shapes if shape.values), None),
        is_closed=any(shape.is_closed for shape in shapes),
    )


def json_type(value: Any) -> str:
    """Return the type of JSON of a value."""
    return _TYPES.get(type(value), "object")


def _number(value: Any) -> Any:
    """Return a bound that compares equal to itself, however it is written."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def differences(old: Shape, new: Shape, path: str) -> Iterator[Difference]:
    """Return what the second of two shapes has otherwise, in the order of the paths."""
    if old.repeats or new.repeats:
        return
    if old.types != new.types:
        yield Difference(path, "types", old.types, new.types)
    if old.choices != new.choices:
        yield Difference(path, "choices", old.choices, new.choices)
    for key in sorted({*old.keywords, *new.keywords}):
        if old.keywords.get(key) != new.keywords.get(key):
            yield Difference(path, key, old.keywords.get(key), new.keywords.get(key))
    if old.is_closed != new.is_closed:
        yield Difference(path, "closed" if new.is_closed else "open")
    for name in sorted({*old.properties, *new.properties}):
        yield from _of_property(name, old, new, f"{path}.{name}")
    for own, other, inner in (
        (old.items, new.items, f"{path}[]"),
        (old.values, new.values, f"{path}.*"),
    ):
        if own != other:
            yield from differences(own or Shape(), other or Shape(), inner)


def _of_property(name: str, old: Shape, new: Shape, path: str) -> Iterator[Difference]:
    if name not in old.properties:
        yield Difference(path, "added", None, _named(new, name))
    elif name not in new.properties:
        yield Difference(path, "removed", _named(old, name), None)
    else:
        is_required = name in new.required
        if is_required != (name in old.required):
            yield Difference(path, "required" if is_required else "optional")
        yield from differences(old.properties[name], new.properties[name], path)


def _named(shape: Shape, name: str) -> tuple[frozenset[str], bool]:
    """Return a property's types, and whether it is required."""
    return shape.properties[name].types, name in shape.required
