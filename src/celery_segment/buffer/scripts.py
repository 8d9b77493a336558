"""The transitions: one Lua file each, loaded from the package and encoded for the wire."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib.resources import files

from hiredis import pack_command

__all__ = ["Script", "encode_command", "key_of", "milliseconds", "script"]

_INCLUDE = re.compile(r"^-- @include (\w+)\n", re.MULTILINE)


def encode_command(*arguments: str | bytes | float) -> bytes:
    """Return a command in Redis' wire protocol (RESP arrays of bulk strings)."""
    encoded: bytes = pack_command(arguments)  # type: ignore[arg-type]  # its stub: a 1-tuple
    return encoded


def key_of(command: bytes) -> str:
    """Return the key of an encoded call of a script."""
    # *n EVALSHA sha 1 key …, each string below its length; no key has a line end.
    return command.split(b"\r\n", 9)[8].decode()


class Script:
    """A transition's text, its includes in place, and its SHA-1."""

    __slots__ = ("name", "sha", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.sha = hashlib.sha1(text.encode()).hexdigest()  # noqa: S324 - Redis' own choice

    def encode_command(self, key: str, *arguments: str | bytes | float) -> bytes:
        """Return the EVALSHA of this script on one key, in Redis' wire protocol."""
        return encode_command("EVALSHA", self.sha, 1, key, *arguments)

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
