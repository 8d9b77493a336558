"""The traits of users and groups."""

from __future__ import annotations

from celery_segment.events.checking import checked
from celery_segment.events.typed import Typed, TypedMeta
from celery_segment.messages import Object

__all__ = ["Traits"]


class Traits(Typed, metaclass=TypedMeta):
    """The traits of ``identify`` and ``group``, as fields.

    ::

        class UserTraits(Traits, rename="camel"):
            first_name: str
            email: str | None = None


        identify.delay("019mr8mf4r", UserTraits(first_name="Ada"))

    Apart from the name and version, all that ``Event`` says applies.
    """

    def __segment_traits__(self) -> Object:
        return checked(self, "traits")
