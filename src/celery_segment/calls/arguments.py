"""The arguments of a call: those that came from elsewhere, and what errors show of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from decimal import Decimal
from traceback import clear_frames
from typing import Any, SupportsIndex
from uuid import UUID

from celery_segment.errors import SegmentError, ValidationError
from celery_segment.messages import TypedEvent, TypedProperties, TypedTraits

__all__ = [
    "EventName",
    "Identifier",
    "Json",
    "Properties",
    "Traits",
    "check_arguments",
    "hide",
]

#: What is accepted as an id, and as properties, traits, context or integrations.
Identifier = str | SupportsIndex | UUID | Decimal | float | None
Json = Mapping[str, Any] | None
#: As the last two, or as an object of a class of celery_segment.events.
EventName = str | TypedEvent | None
Properties = Mapping[str, Any] | TypedProperties | None
Traits = Mapping[str, Any] | TypedTraits | None


def check_arguments(build: Callable[..., Any], args: Any, kwargs: Any) -> None:
    """Refuse arguments that are not those of the call: they were sent by the task's name.

    Those of a prepared message are a call's, perhaps of a newer version than this worker's.
    """
    try:
        given = inspect.signature(build).bind(*args, **kwargs).arguments
    except TypeError as error:
        raise ValidationError("arguments", f"{error}; pass those of the call") from None
    source = given.get("source", "")
    if not isinstance(source, str):
        raise ValidationError("source", f"must be a string, not {type(source).__name__}")


def hide(error: Exception) -> None:
    """Clear what the frames of our own errors hold beyond the call's arguments.

    An error tracker would show it: the visitor, and the whole message.
    """
    if isinstance(error, SegmentError):
        clear_frames(error.__traceback__)
