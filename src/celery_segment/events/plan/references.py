"""Find what a schema refers to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

__all__ = ["at"]


def at(root: Any, reference: str) -> Any:
    """Return the part of a schema that a reference such as "#/definitions/a" has; or None."""
    pointer, found = unquote(reference), root
    if pointer == "#":
        return root
    if not pointer.startswith("#/"):
        return None
    for step in pointer.removeprefix("#/").split("/"):
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping):
            found = found.get(name)
        elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            return None
    return found
