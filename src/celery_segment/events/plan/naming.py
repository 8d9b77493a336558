"""Name the classes and fields that are generated from a plan."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable

__all__ = ["class_name", "field_names", "unique"]

#: A word of a name: capitals, a capital with what follows, small letters, digits.
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


def class_name(*names: str) -> str:
    """Return the name of a class for what has names in a plan: "Order Completed" is OrderCompleted.

    One that would be none of Python's gets "Event" before it.
    """
    words = [word for name in names for word in _WORD.findall(name)]
    made = "".join(word[:1].upper() + word[1:] for word in words)
    is_name = made and not made[0].isdigit() and not keyword.iskeyword(made)
    return made if is_name else f"Event{made}"


#: Names that the annotations and defaults of other fields use.
_USED = frozenset({"bool", "date", "datetime", "dict", "field", "float", "int", "list", "str"})


def field_names(properties: Iterable[str]) -> dict[str, str]:
    """Return the names of fields for properties: "Order ID" is order_id.

    Of several that would be the same, the one that is spelled so has it, and the others a number.
    """
    taken: set[str] = set()
    names: dict[str, str] = {}
    for name in sorted(properties, key=lambda each: (_field_name(each) != each, each)):
        names[name] = unique(_field_name(name), taken, "_")
        taken.add(names[name])
    return names


def _field_name(name: str) -> str:
    made = "_".join(_WORD.findall(name)).lower()
    if not made or made[0].isdigit():
        made = f"property_{made}".rstrip("_")
    return f"{made}_" if keyword.iskeyword(made) or made in _USED else made


def unique(name: str, taken: Iterable[str], between: str = "") -> str:
    """Return a name that is not taken: with a number at its end, where it is."""
    taken, number, made = set(taken), 1, name
    while made in taken:
        number += 1
        made = f"{name}{between}{number}"
    return made
