"""Reduce a schema to what a type of Python can say of a value, for each kind of value.

What no type can say is left to the plan, which judges it at the call. Both the classes that are
generated and the comparison of classes with a plan start from what is returned here, so they
agree. Where in doubt it is less than what the schema says: a class must not refuse a value that
the plan accepts.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from celery_segment.events.plan.shape import json_type

if TYPE_CHECKING:
    from typing import TypeGuard

__all__ = ["Kinds", "kinds_of"]

#: What is said of the values of each type of JSON; those of other types are not allowed.
Kinds = dict[str, dict[str, Any]]

#: The whole numbers that a type of msgspec can name.
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1
#: From where on a float is not any whole number.
_EXACT = 2**53
#: What means something else in Python than in ECMAScript, or might refuse more: what is not in a
#: class of characters, of which Python's have those of all scripts; spaces, of which it has
#: others; and references to groups.
_MEANS_OTHERWISE = re.compile(r"\\[^dwnrtfvxu\W_]|\[\^(?:\\.|[^\]\\])*\\[dw]|\(\?(?!:)", re.DOTALL)


def kinds_of(schema: Any) -> Kinds:
    """Return what a type can say of the values that a schema allows; nothing where it is any.

    Of an object whose properties have names, it is the schema itself.
    """
    if not isinstance(schema, Mapping):  # true, or false
        return {}
    types = _types(schema)
    options = [schema["const"]] if "const" in schema else schema.get("enum")
    if options:
        return _of_options(options, types)
    if types:
        kinds = {kind: _SAID[kind](schema) if kind in _SAID else {} for kind in types}
    else:
        kinds = _either(map(kinds_of, schema.get("anyOf") or schema.get("oneOf") or ()))
    return _without_unsafe(kinds)


def _without_unsafe(kinds: Kinds) -> Kinds:
    """Leave out the pattern of a text that may be a list or a mapping instead.

    When such a class is freed, msgspec 0.22 frees what is not its own, and the process may crash.
    """
    text = kinds.get("string", {})
    beside = [kinds[kind] for kind in ("array", "object") if kind in kinds]
    if "pattern" not in text or all(said.get("properties") for said in beside):
        return kinds
    return {**kinds, "string": {key: text[key] for key in text if key != "pattern"}}


def _types(schema: Mapping[str, Any]) -> list[str]:
    given = schema.get("type", [])
    types = [given] if isinstance(given, str) else list(given)
    if not types and schema.get("properties"):  # who names them means an object
        return ["object"]
    return [each for each in types if each != "integer" or "number" not in types]


def _of_options(options: Iterable[Any], types: list[str]) -> Kinds:
    """Return the kinds of some values, and the values where a ``Literal`` can have them."""
    kinds: Kinds = {}
    for value in options:
        kind = json_type(value)
        if kind == "integer" and "number" in types:
            kind = "number"
        if not types or kind in types:
            kinds.setdefault(kind, {"enum": []})["enum"].append(value)
    can_be_named = all(
        kind == "null" or all(map(_is_literal, said["enum"])) for kind, said in kinds.items()
    )
    if "number" in kinds:
        kinds.pop("integer", None)
    return {
        kind: said if can_be_named and kind in ("string", "integer") else {}
        for kind, said in kinds.items()
    }


def _is_literal(value: Any) -> bool:
    return isinstance(value, str) or (type(value) is int and _SMALLEST <= value <= _LARGEST)


def _either(alternatives: Iterable[Kinds]) -> Kinds:
    """Return the kinds of what is one of several.

    A type has one rule for each kind of value: where two have different ones, it has none.
    """
    found: Kinds = {}
    for kinds in alternatives:
        if not kinds:
            return {}
        for kind, said in kinds.items():
            found[kind] = _both(found[kind], said) if kind in found else said
    if "number" in found and "integer" in found:
        del found["integer"]
        found["number"] = {}
    return found


def _both(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    if "enum" in one and "enum" in other:
        return {"enum": [*dict.fromkeys([*one["enum"], *other["enum"]])]}
    return one if one == other else {}


def _of_string(schema: Mapping[str, Any]) -> dict[str, Any]:
    said = _sizes(schema, "minLength", "maxLength")
    if _means_the_same(schema.get("pattern")):
        said["pattern"] = schema["pattern"]
    if not said and schema.get("format") == "date-time":
        said["format"] = "date-time"
    return said


def _means_the_same(pattern: Any) -> bool:
    """Return whether Python's regular expressions have a pattern, and refuse no more by it."""
    if not pattern or not isinstance(pattern, str) or _MEANS_OTHERWISE.search(pattern):
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            re.compile(pattern)
    except (re.error, OverflowError, FutureWarning, DeprecationWarning):
        return False
    return True


def _of_number(schema: Mapping[str, Any]) -> dict[str, Any]:
    said = {key: value for key, value in _bounds(schema).items() if abs(value) < _EXACT}
    # As a float, a large multiple of others is none any more.
    return {**said, "multipleOf": 1} if _factor(schema) == 1 else said


def _of_integer(schema: Mapping[str, Any]) -> dict[str, Any]:
    said = _bounds({key: _whole_bound(key, schema.get(key)) for key in _BOUNDS})
    if (factor := _factor(schema)) > 1:
        said["multipleOf"] = factor
    return {key: value for key, value in said.items() if _SMALLEST < value < _LARGEST}


_BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")


def _whole_bound(key: str, value: Any) -> Any:
    """Return a bound of whole numbers as one: greater than 2.5 is greater than 2."""
    if not _is_number(value):
        return value
    return math.floor(value) if key in ("exclusiveMinimum", "maximum") else math.ceil(value)


def _bounds(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the narrower of the bounds at each end: a type has one."""
    said: dict[str, Any] = {}
    for key, sign in (("Minimum", 1), ("Maximum", -1)):
        limit, beyond = schema.get(key.lower()), schema.get(f"exclusive{key}")
        if beyond is True and _is_number(limit):  # as draft 4 has it
            limit, beyond = None, limit
        if _is_number(beyond) and not (_is_number(limit) and sign * limit > sign * beyond):
            said[f"exclusive{key}"] = beyond
        elif _is_number(limit):
            said[key.lower()] = limit
    return said


def _factor(schema: Mapping[str, Any]) -> int:
    """Return the whole number that a number is a multiple of; 0 for none, or a fraction."""
    value = schema.get("multipleOf")
    return int(value) if _is_number(value) and value == int(value) else 0


def _is_number(value: Any) -> TypeGuard[int | float]:
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _sizes(schema: Mapping[str, Any], least: str, most: str) -> dict[str, Any]:
    given = {key: schema[key] for key in (least, most) if _is_number(schema.get(key))}
    return {
        key: int(value)
        for key, value in given.items()
        if value <= _LARGEST and (value or key == most)
    }


def _of_array(schema: Mapping[str, Any]) -> dict[str, Any]:
    said = _sizes(schema, "minItems", "maxItems")
    if isinstance(schema.get("items"), Mapping) and not schema.get("prefixItems"):
        said["items"] = schema["items"]
    return said


def _of_object(schema: Mapping[str, Any]) -> dict[str, Any]:
    if schema.get("properties"):
        return dict(schema)
    values = schema.get("additionalProperties")
    if not isinstance(values, Mapping) or schema.get("patternProperties"):
        return {}
    return {"additionalProperties": values}


_SAID = {
    "string": _of_string,
    "number": _of_number,
    "integer": _of_integer,
    "array": _of_array,
    "object": _of_object,
}
