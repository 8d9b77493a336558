"""Paths of the values in a message, for errors: ``properties.items[2].price``."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["Path", "field_of", "shown", "shown_key"]

#: A field's name; or a container's path with an index, or with a key and the key's place. It
#: becomes text only where there is an error.
Path = Any

#: Keys that a programmer chose, most likely, and not somebody's address, number or id.
_NAME = re.compile(r"(?!\d)[\w$][\w$:/ .-]{0,31}|\d{1,3}")


def field_of(path: Path) -> str:
    """Return the name of the field that a path is in."""
    while not isinstance(path, str):
        path = path[0]
    return path


def shown(path: Path) -> str:
    """Return a path as text."""
    parts = []
    while not isinstance(path, str):
        path, *key = path
        parts.append(f"[{key[0]}]" if len(key) == 1 else f".{shown_key(*key)}")
    return "".join([path, *reversed(parts)])


def shown_key(key: Any, place: int) -> str:
    """Return a mapping's key as an error may show it.

    A key that may be somebody's data is shown as its place in the mapping, from 0.
    """
    is_name = isinstance(key, str) and _NAME.fullmatch(key)
    return f"{key}" if is_name else f"<key {place}>"
