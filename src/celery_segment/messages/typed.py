"""Typed events as a message meets them: by methods of a value's class, from wherever that comes.

The classes are in ``celery_segment.events``, which a message does not know: an application that
has none never loads them. It is the class that is asked for a method: a proxy would answer for what
it stands for, or fail.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from celery_segment.errors import ValidationError
from celery_segment.messages.types import Object

__all__ = [
    "TypedEvent",
    "TypedProperties",
    "TypedTraits",
    "given_twice",
    "with_version",
]


class TypedEvent(Protocol):
    """An event of a tracking plan: the name of a track message, and its properties."""

    #: The event's name; None where its class is a base of others.
    __segment_name__: ClassVar[str | None]

    def __segment_event__(self) -> tuple[str, int | None, Object]:
        """Return the event's name, its version in the plan, and its properties.

        Raises:
            ValidationError: A property is not valid.
        """
        ...


class TypedProperties(Protocol):
    """The properties of a page or a screen, or an object within others."""

    def __segment_properties__(self) -> Object:
        """Return the properties.

        Raises:
            ValidationError: One is not valid.
        """
        ...


class TypedTraits(Protocol):
    """The traits of a user or a group."""

    def __segment_traits__(self) -> Object:
        """Return the traits.

        Raises:
            ValidationError: One is not valid.
        """
        ...


def with_version(context: Mapping[str, Any] | None, version: int) -> dict[str, Any]:
    """Return a call's context with the version of its event; what the call gives wins.

    Source: Segment Protocols, "event_version".
    """
    given = dict(context or {})
    protocols = given.get("protocols", {})
    if isinstance(protocols, Mapping):
        given["protocols"] = {"event_version": version, **protocols}
    return given


def given_twice(field: str) -> ValidationError:
    """Return the error of a call that gives properties beside a typed event."""
    return ValidationError(field, "are those of the typed event: give one of the two")
