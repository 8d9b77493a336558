"""The messages of Segment's six calls.

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
    "Object",
    "Page",
    "Screen",
    "Track",
]


#: The value of a field that is an object: a dict, or its encoded JSON.
Object = dict[str, Any] | msgspec.Raw


class Message(
    msgspec.Struct, kw_only=True, omit_defaults=True, rename="camel", tag_field="type", tag=False
):
    """The fields that all messages have.

    ``timestamp`` is in UTC, ISO 8601 with milliseconds. ``context`` is encoded JSON if the
    call gave none, as are the properties and traits of most typed events.
    """

    #: The fields that identify the user, of which at least one must be given.
    identity: ClassVar[tuple[str, ...]] = ("user_id", "anonymous_id")
    #: The fields that must all be given.
    required: ClassVar[tuple[str, ...]] = ()

    message_id: str
    timestamp: str
    user_id: str | None = None
    anonymous_id: str | None = None
    context: Object | None = None
    integrations: dict[str, Any] | None = None

    def __repr__(self) -> str:
        # The rest is people's data, and would get into logs and error reports.
        return f"{type(self).__name__}(message_id={self.message_id!r})"


class Identify(Message, tag="identify"):
    """A user's ``traits``, such as their name and email."""

    traits: Object | None = None


class Track(Message, tag="track"):
    """An action of a user: the name of the ``event``, and its ``properties``."""

    required = ("event",)

    event: str
    properties: Object | None = None


class Page(Message, tag="page"):
    """A view of a website's page."""

    category: str | None = None
    name: str | None = None
    properties: Object | None = None


class Screen(Message, tag="screen"):
    """A view of an application's screen."""

    category: str | None = None
    name: str | None = None
    properties: Object | None = None


class Group(Message, tag="group"):
    """A user's membership in a group, and the group's ``traits``."""

    required = ("group_id",)

    group_id: str
    traits: Object | None = None


class Alias(Message, tag="alias"):
    """A change of a user's id, from ``previous_id`` to ``user_id``."""

    identity = ()
    required = ("previous_id", "user_id")

    previous_id: str


#: The message classes by type, as in the wire form.
TYPES: dict[str, type[Message]] = {
    kind.__name__.lower(): kind for kind in (Identify, Track, Page, Screen, Group, Alias)
}
#: The names of the fields by their names in the wire form.
ARGUMENTS = {
    encoded: name
    for kind in TYPES.values()
    for name, encoded in zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True)
}
