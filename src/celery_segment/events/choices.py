"""The values that a class allows at a path, for an error's text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from msgspec import inspect

__all__ = ["choices"]

#: Values that an error names at most.
SHOWN = 20

_INDEX = re.compile(r"\[(\d+|\.\.\.)\]")


def choices(kind: type, path: str) -> list[str]:
    """Return the values of the enums and literals at a path such as "properties.items[2].size".

    Args:
        kind: The class of what the path begins with.
        path: The path; its first part is the field of the message.
    """
    rest = path[re.match(r"\w*", path).end() :]  # type: ignore[union-attr]
    found: dict[str, None] = {}
    for node in _at(inspect.type_info(kind), rest):
        if isinstance(node, inspect.EnumType):
            found |= {repr(member.value): None for member in node.cls}
        elif isinstance(node, inspect.LiteralType):
            found |= {repr(value): None for value in node.values}
    shown = list(found)
    return shown if len(shown) <= SHOWN else [*shown[:SHOWN], f"… ({len(shown)})"]


def _at(node: Any, path: str) -> Iterator[Any]:
    """Return the types that a path leads to from a type."""
    if isinstance(node, inspect.Metadata):
        yield from _at(node.type, path)
    elif isinstance(node, inspect.UnionType):
        for part in node.types:
            yield from _at(part, path)
    elif not path:
        yield node
    else:
        for inner, rest in _steps(node, path):
            yield from _at(inner, rest)


def _steps(node: Any, path: str) -> Iterator[tuple[Any, str]]:
    """Return what a path's first step may lead to, each with the rest of the path."""
    for field in getattr(node, "fields", ()):
        rest = path.removeprefix(f".{field.encode_name}")
        if rest != path and rest[:1] in ("", ".", "["):
            yield field.type, rest
    index = _INDEX.match(path)
    if index is None:
        return
    rest = path[index.end() :]
    if hasattr(node, "item_type"):
        yield node.item_type, rest
    elif hasattr(node, "item_types") and index[1].isdigit():
        yield node.item_types[int(index[1])], rest
    elif hasattr(node, "value_type"):
        yield node.value_type, rest
