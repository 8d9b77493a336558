"""What a user of Redis needs to be allowed, by what connects as this user.

Redis looks up a user's permission for each command of a script: a script which lacks one is
refused in its middle, after some of its writes took effect. So before a process runs the first
script of a role, it asks by ``rights.lua`` whether the user may do all that the role does: a
worker that may not count a delivery is not to make one. Scripts that change nothing but what
they find lost are run without: a user for figures alone needs less.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from celery_segment.buffer.scripts import Script, key_of, script
from celery_segment.errors import BufferUnavailable

if TYPE_CHECKING:
    from celery_segment.buffer.topology.types import Server

__all__ = [
    "OPERATOR",
    "PRODUCER",
    "READING",
    "WORKER",
    "RightsMissing",
    "Role",
    "allow",
    "check_rights",
    "refused",
    "role_of",
]

_COMMENT = re.compile(r"--.*")
# A ``pcall`` goes on where it is refused: INFO, without which a share of memory is not kept.
_CALL = re.compile(r"\bredis\.call\(\s*'(\w+)'")


@dataclass(frozen=True, slots=True)
class Role:
    """What connects to the buffer's Redis.

    Attributes:
        name: Its name.
        scripts: The names of the scripts that it runs.
        plain: The commands that it runs outside of scripts.
        optional: Commands without which it does less.
    """

    name: str
    scripts: frozenset[str]
    plain: frozenset[str]
    optional: frozenset[str]

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands that it runs, in scripts and outside of them, but for those with EVALSHA."""
        return tuple(sorted(self.plain.union(*map(_commands_of, self.scripts | {"rights"}))))

    @property
    def rules(self) -> str:
        """The rules of an ACL user, to be completed by a password and the patterns of keys."""
        names = ("EVALSHA", "SCRIPT|LOAD", *self.commands, *sorted(self.optional))
        return " ".join(f"+{name.lower()}" for name in names)


@cache
def _commands_of(name: str) -> frozenset[str]:
    """Return the commands that a script cannot do without."""
    return frozenset(_CALL.findall(_COMMENT.sub("", script(name).text)))


#: Calls, and what a process does that makes them.
PRODUCER = Role(
    "producer",
    frozenset({"append", "quarantine", "stored", "touch", "violations"}),
    frozenset({"HINCRBY", "PING"}),
    frozenset({"INFO", "WAIT"}),
)
#: Deliveries, ticks, and what tasks may do: calls, ``flush()`` and ``stats()``.
WORKER = Role(
    "worker",
    PRODUCER.scripts
    | {
        *("ack", "begin", "bury", "called", "claim", "compress", "compressible", "damage", "due"),
        *("expire", "mark", "note_format", "reap", "register", "release", "remaining"),
        *("repair", "reserve", "retry", "snapshot", "split", "take", "uncalled"),
        "unreserve",
    },
    PRODUCER.plain | {"GET", "GETRANGE", "HGET", "HSETNX", "HVALS"},
    frozenset({"INFO", "WAIT"}),
)
#: Every command of ``celery segment``: ``deliver`` does what a worker does.
OPERATOR = Role(
    "operator",
    WORKER.scripts
    | {
        *("dead", "end_move", "forget", "groups", "history", "next_move", "pause", "place"),
        *("purge", "receive", "remove", "replay", "resume", "start_move", "tail"),
    },
    WORKER.plain | {"HGETALL", "HKEYS", "HMGET", "TIME", "ZCARD", "ZCOUNT", "ZRANGE", "ZSCORE"},
    frozenset({"CONFIG|GET", "INFO", "SCAN", "WAIT"}),
)
#: Scripts that write nothing, unless a count was lost.
READING = frozenset(
    {
        *("compressible", "dead", "groups", "history", "place"),
        *("remaining", "snapshot", "stored"),
    }
)


@cache
def role_of(name: str) -> Role | None:
    """Return the role of which the user has to have all rights before a script is run."""
    if name in READING:
        return None
    return next((role for role in (PRODUCER, WORKER, OPERATOR) if name in role.scripts), None)


class RightsMissing(BufferUnavailable):
    """The user may not run some of the commands that a role needs; nothing was changed."""

    def __init__(self, address: str, role: Role, refused: Sequence[str]) -> None:
        super().__init__(
            f"Redis at {address} refused the user, who may not run {', '.join(refused)}",
            hint=f"allow what the docs list under least rights for the {role.name}",
        )


def refused(server: Server, key: str, role: Role) -> list[str]:
    """Return the commands that a role needs and the user may not run, on keys like this one."""
    return [name.decode() for name in server.run(script("rights"), key, *role.commands)]


def check_rights(server: Server, key: str, role: Role) -> None:
    """Raise ``RightsMissing`` where the user may not run all that a role needs."""
    missing = refused(server, key, role)
    if missing:
        raise RightsMissing(server.address, role, missing)


def allow(server: Server, allowed: set[str], script: Script, command: bytes) -> None:
    """Check the rights for a script's role before a process runs the first script of it.

    It is asked again after connections were closed: another server, or a user that was refused,
    may have other rights by now.

    Args:
        server: The server.
        allowed: The names of scripts that may be run, to be added to.
        script: The script.
        command: An encoded call of it.
    """
    role = role_of(script.name)
    if role is None:
        allowed.add(script.name)
        return
    try:
        check_rights(server, key_of(command), role)
    except BufferUnavailable as error:
        error.unknown = 0  # the caller's command was not sent
        raise
    allowed.update(role.scripts)
