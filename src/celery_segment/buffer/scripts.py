"""The transitions: one Lua file each, loaded from the package and packed for the wire."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib.resources import files

__all__ = ["Script", "milliseconds", "pack", "script"]

_INCLUDE = re.compile(r"^-- @include (\w+)\n", re.MULTILINE)


def pack(*arguments: str | bytes | float) -> bytes:
    """Return a command in Redis' wire protocol (RESP arrays of bulk strings)."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        data = argument if isinstance(argument, bytes) else str(argument).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


class Script:
    """A transition's text, its includes in place, and its SHA-1."""

    __slots__ = ("name", "sha", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.sha = hashlib.sha1(text.encode()).hexdigest()  # noqa: S324 - Redis' own choice

    def call(self, key: str, *arguments: str | bytes | float) -> bytes:
        """Return the packed EVALSHA of this script on one key."""
        return pack("EVALSHA", self.sha, 1, key, *arguments)

    def __repr__(self) -> str:
        return f"Script({self.name!r})"


@cache
def script(name: str) -> Script:
    """Return the transition of that name."""
    folder = files(__package__) / "lua"

    def text_of(name: str) -> str:
        return (folder / f"{name}.lua").read_text("utf-8")

    return Script(name, _INCLUDE.sub(lambda match: text_of(match[1]), text_of(name)))


def milliseconds(seconds: float) -> int:
    """Return a duration, or a time, as the scripts take it."""
    return round(seconds * 1000)
