"""The six messages: Segment's six calls, field by field.

Source: Segment Spec (identify, track, page, screen, group, alias).
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

__all__ = [
    "ARGUMENTS",
    "TYPES",
    "Alias",
    "Group",
    "Identify",
    "Message",
    "Page",
    "Screen",
    "Track",
]


class Message(
    msgspec.Struct, kw_only=True, omit_defaults=True, rename="camel", tag_field="type", tag=False
):
    """What the six calls share. Times are UTC, ISO 8601 with milliseconds."""

    #: What identifies the subject: at least one of these fields must be given.
    identity: ClassVar[tuple[str, ...]] = ("user_id", "anonymous_id")
    #: The fields that must be given besides.
    required: ClassVar[tuple[str, ...]] = ()

    message_id: str
    timestamp: str
    user_id: str | None = None
    anonymous_id: str | None = None
    context: dict[str, Any] | msgspec.Raw | None = None
    integrations: dict[str, Any] | None = None


class Identify(Message, tag="identify"):
    """Who a user is: ``traits``."""

    traits: dict[str, Any] | None = None


class Track(Message, tag="track"):
    """What a user did: ``event`` and its ``properties``."""

    required = ("event",)

    event: str
    properties: dict[str, Any] | None = None


class Page(Message, tag="page"):
    """Which page of a website a user saw."""

    category: str | None = None
    name: str | None = None
    properties: dict[str, Any] | None = None


class Screen(Message, tag="screen"):
    """Which screen of an application a user saw."""

    category: str | None = None
    name: str | None = None
    properties: dict[str, Any] | None = None


class Group(Message, tag="group"):
    """Which group a user belongs to, and the group's ``traits``."""

    required = ("group_id",)

    group_id: str
    traits: dict[str, Any] | None = None


class Alias(Message, tag="alias"):
    """That two ids are the same user's."""

    identity = ()
    required = ("previous_id", "user_id")

    previous_id: str


#: The six calls by the type of their messages.
TYPES: dict[str, type[Message]] = {
    kind.__name__.lower(): kind for kind in (Identify, Track, Page, Screen, Group, Alias)
}
#: The names of the arguments by the names on the wire.
ARGUMENTS = {
    encoded: name
    for kind in TYPES.values()
    for name, encoded in zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True)
}
