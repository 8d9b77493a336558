"""The events of track messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from celery_segment.errors import ValidationError
from celery_segment.events.checking import checked
from celery_segment.events.typed import Rename, Typed, TypedMeta
from celery_segment.messages import Object

__all__ = ["Event"]

M = TypeVar("M", bound="EventMeta")


class EventMeta(TypedMeta):
    """Makes the classes of events, which have a name and a version."""

    def __new__(  # noqa: PYI019 - Self has no meaning in a metaclass
        mcls: type[M],
        class_name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        /,
        *,
        name: str | None = None,
        version: int | None = None,
        rename: Rename = None,
        tag: bool | str | int | Callable[[str], str | int] | None = None,
        tag_field: str | None = None,
        omit_defaults: bool = False,
        forbid_unknown_fields: bool = False,
    ) -> M:
        """Make a class."""
        if name is not None and (not isinstance(name, str) or not name):
            raise TypeError(f"{class_name}: name must be a text that is not empty")
        if version is not None and (type(version) is not int or version < 0):
            raise TypeError(f"{class_name}: version must be a whole number from 0 on")
        own: dict[str, Any] = {}
        if name is not None:
            own |= {"__segment_name__": name, "__segment_version__": version}
        elif version is not None:
            own["__segment_version__"] = version
        return super().__new__(
            mcls,
            class_name,
            bases,
            {**namespace, **own},
            rename=rename,
            tag=tag,
            tag_field=tag_field,
            omit_defaults=omit_defaults,
            forbid_unknown_fields=forbid_unknown_fields,
        )


class Event(Typed, metaclass=EventMeta):
    """An event of ``track``, with its properties as fields.

    ::

        class OrderCompleted(Event, name="Order Completed"):
            order_id: str
            revenue: Annotated[float, Meta(ge=0)]
            coupon: str | None = None


        track.delay(user_id="019mr8mf4r", event=OrderCompleted(order_id="50314b8e", revenue=39.95))

    The values are checked by the call, which raises ``ValidationError`` with the path of the first
    one that is not of its type. A field that is not given, and whose default is None or
    ``UNSET``, is not sent.

    A class without a name is a base for others. One that derives from a class with a name, and
    gives none, has the same.

    Args:
        name: The event's name, as Segment shows it.
        version: The version of the event in a tracking plan, which is sent in
            ``context.protocols.event_version``.
        rename: Makes the properties' names of those of the fields: "camel", "pascal", "kebab",
            "lower" or "upper", a function, or a dict. ``field(name=...)`` names one.
        tag: As for ``msgspec.Struct``.
        tag_field: As for ``msgspec.Struct``.
        omit_defaults: Do not send values that are equal to their field's default.
        forbid_unknown_fields: As for ``msgspec.Struct``.
    """

    __segment_name__: ClassVar[str | None] = None
    __segment_version__: ClassVar[int | None] = None

    if TYPE_CHECKING:  # ty asks this, and not the metaclass

        def __init_subclass__(
            cls,
            *,
            name: str | None = None,
            version: int | None = None,
            rename: Rename = None,
            tag: bool | str | int | Callable[[str], str | int] | None = None,
            tag_field: str | None = None,
            omit_defaults: bool = False,
            forbid_unknown_fields: bool = False,
        ) -> None: ...

    def __segment_event__(self) -> tuple[str, int | None, Object]:
        name = self.__segment_name__
        if name is None:
            kind = type(self).__name__
            raise ValidationError(
                "event", f'{kind} has no name: define it as class {kind}(Event, name="…")'
            )
        return name, self.__segment_version__, checked(self, "properties")
