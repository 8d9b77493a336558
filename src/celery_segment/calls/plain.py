"""The arguments of a signature as the broker's serializer takes them.

A signature may travel through the broker as a part of a canvas, long after it was made. What a
typed event says is therefore put into it as a name and a dict.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from celery_segment.errors import ValidationError
from celery_segment.messages import opened, with_version

__all__ = ["plain_arguments", "plain_positional"]

_METHODS = ("__segment_event__", "__segment_traits__", "__segment_properties__")


def plain_arguments(args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Return the arguments of a call, with typed events, traits and properties as plain ones.

    Those that are not valid stay as they are, and are refused by the call itself, as
    ``segment_on_invalid`` says.

    Args:
        args: The positional arguments, or None.
        kwargs: The keyword arguments, or None.
    """
    if not _any_typed([*(args or ()), *(kwargs or {}).values()]):
        return args, kwargs
    try:
        return _plain(list(args or ()), dict(kwargs or {}))
    except ValidationError:
        return args, kwargs


def plain_positional(build: Callable[..., Any], args: Iterable[Any]) -> tuple[Any, ...]:
    """Return the positional arguments of a call, with typed events as plain ones.

    What a typed event says of other arguments gets their places, and those between are None.

    Args:
        build: What has the arguments of the call.
        args: The positional arguments.

    Raises:
        ValidationError: A typed event is not valid.
    """
    given = tuple(args)
    if not _any_typed(given):
        return given
    args, kwargs = _plain(list(given), {})
    signature = inspect.signature(build)
    named = signature.bind_partial(*args, **kwargs).arguments
    names = [*signature.parameters]
    last = max(map(names.index, named))
    return tuple(map(named.get, names[: last + 1]))


def _any_typed(values: Iterable[Any]) -> bool:
    return any(hasattr(type(value), name) for value in values for name in _METHODS)


def _plain(args: list[Any], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    named = dict(kwargs)
    places = [*((args, place) for place in range(len(args))), *((named, name) for name in kwargs)]
    for holder, place in places:
        value = holder[place]  # type: ignore[index]
        event, traits, properties = (getattr(type(value), name, None) for name in _METHODS)
        if read := traits or properties:
            holder[place] = opened(read(value))  # type: ignore[index]
        if event is None:
            continue
        # What follows it by place may be its properties: the call says so.
        if "properties" in kwargs or (holder is args and place != len(args) - 1):
            raise ValidationError("properties", "are those of the typed event")
        holder[place], version, properties = event(value)  # type: ignore[index]
        named["properties"] = opened(properties)
        if version is not None:
            named["context"] = with_version(named.get("context"), version)
    return tuple(args), named
