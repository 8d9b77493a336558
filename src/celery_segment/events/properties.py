"""The properties of pages and screens, and objects within those of events."""

from __future__ import annotations

from celery_segment.events.checking import checked
from celery_segment.events.typed import Typed, TypedMeta
from celery_segment.messages import Object

__all__ = ["Properties"]


class Properties(Typed, metaclass=TypedMeta):
    """The properties of ``page`` and ``screen``, or an object within those of an event.

    ::

        class Product(Properties):
            sku: str
            quantity: int = 1


        class OrderCompleted(Event, name="Order Completed"):
            products: list[Product]

    Apart from the name and version, all that ``Event`` says applies.
    """

    def __segment_properties__(self) -> Object:
        return checked(self, "properties")
