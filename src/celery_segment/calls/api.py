"""The six calls, in the order of arguments of Segment's own Python library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, ParamSpec, cast
from uuid import UUID

from celery import shared_task
from celery._state import get_current_app
from celery.local import Proxy

from celery_segment import messages
from celery_segment.calls.task import Built, Call
from celery_segment.config import DEFAULT_SOURCE
from celery_segment.visitor import present

__all__ = ["CALLS", "Call", "alias", "group", "identify", "page", "screen", "track"]

P = ParamSpec("P")
Json = Mapping[str, Any] | None
Identifier = str | int | UUID | Decimal | float | None


class _Current(Proxy):
    """The task of the current application, as ``shared_task`` gives it.

    But for the call that is made most: it finds its task without the proxy's detour.
    """

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "_name", name)
        super().__init__(lambda: get_current_app().tasks[name])

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        app = get_current_app()
        # A cached property's value: the property itself takes longer than all else here.
        tasks = app.__dict__.get("tasks") or app.tasks
        return tasks[self._name].delay(*args, **kwargs)


def _call(build: Callable[P, Built]) -> Call[P]:
    """Register the task ``segment.<name>`` whose arguments are those of ``build``."""

    def run(self: Call[P], *args: P.args, **kwargs: P.kwargs) -> str:
        return self.body(*args, **kwargs)

    for attribute in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(run, attribute, getattr(build, attribute))
    name = f"segment.{build.__name__}"
    options = {"name": name, "base": Call, "bind": True, "typing": False}
    shared_task(run, build=staticmethod(build), **options)
    return cast("Call[P]", _Current(name))


@_call
def identify(
    user_id: Identifier = None,
    traits: Json = None,
    context: Json = None,
    timestamp: datetime | str | None = None,
    anonymous_id: Identifier = None,
    integrations: Json = None,
    message_id: str | None = None,
    *,
    source: str = DEFAULT_SOURCE,
) -> Built:
    """Say who a user is.

    Args:
        user_id: The user's id in your database; this or ``anonymous_id`` is required.
        traits: What you know about the user: name, email, plan, …
        context: Extra context (ip, userAgent, locale, page, campaign, …).
        timestamp: When it happened; leave it out for now. A datetime without a
            zone is local time within five seconds of now, else UTC.
        anonymous_id: An id from before you knew the user.
        integrations: Destinations to turn on or off, by name.
        message_id: At most 100 characters; Segment delivers each id once in about a day.
        source: The name of the source in ``segment_sources``.
    """
    return source, messages.build_message(
        messages.Identify,
        present(),
        user_id=user_id,
        anonymous_id=anonymous_id,
        traits=traits,
        context=context,
        timestamp=timestamp,
        integrations=integrations,
        message_id=message_id,
    )


@_call
def track(
    user_id: Identifier = None,
    event: str | None = None,
    properties: Json = None,
    context: Json = None,
    timestamp: datetime | str | None = None,
    anonymous_id: Identifier = None,
    integrations: Json = None,
    message_id: str | None = None,
    *,
    source: str = DEFAULT_SOURCE,
) -> Built:
    """Record what a user did: ``event``, such as "Item Purchased", and its ``properties``.

    The other arguments are those of ``identify``.
    """
    return source, messages.build_message(
        messages.Track,
        present(),
        user_id=user_id,
        anonymous_id=anonymous_id,
        event=event,
        properties=properties,
        context=context,
        timestamp=timestamp,
        integrations=integrations,
        message_id=message_id,
    )


@_call
def alias(
    previous_id: Identifier = None,
    user_id: Identifier = None,
    context: Json = None,
    timestamp: datetime | str | None = None,
    integrations: Json = None,
    message_id: str | None = None,
    *,
    source: str = DEFAULT_SOURCE,
) -> Built:
    """Say that ``previous_id`` and ``user_id``, both required, are the same user's.

    The other arguments are those of ``identify``.
    """
    return source, messages.build_message(
        messages.Alias,
        present(),
        previous_id=previous_id,
        user_id=user_id,
        context=context,
        timestamp=timestamp,
        integrations=integrations,
        message_id=message_id,
    )


@_call
def group(
    user_id: Identifier = None,
    group_id: Identifier = None,
    traits: Json = None,
    context: Json = None,
    timestamp: datetime | str | None = None,
    anonymous_id: Identifier = None,
    integrations: Json = None,
    message_id: str | None = None,
    *,
    source: str = DEFAULT_SOURCE,
) -> Built:
    """Say that a user belongs to a group, ``group_id``, which has ``traits``.

    The other arguments are those of ``identify``.
    """
    return source, messages.build_message(
        messages.Group,
        present(),
        user_id=user_id,
        anonymous_id=anonymous_id,
        group_id=group_id,
        traits=traits,
        context=context,
        timestamp=timestamp,
        integrations=integrations,
        message_id=message_id,
    )


@_call
def page(
    user_id: Identifier = None,
    category: str | None = None,
    name: str | None = None,
    properties: Json = None,
    context: Json = None,
    timestamp: datetime | str | None = None,
    anonymous_id: Identifier = None,
    integrations: Json = None,
    message_id: str | None = None,
    *,
    source: str = DEFAULT_SOURCE,
) -> Built:
    """Record a view of a website's page.

    ``properties`` are any, with ``url``, ``title``, ``referrer`` and ``path`` known to
    Segment. The other arguments are those of ``identify``.
    """
    return source, messages.build_message(
        messages.Page,
        present(),
        user_id=user_id,
        anonymous_id=anonymous_id,
        category=category,
        name=name,
        properties=properties,
        context=context,
        timestamp=timestamp,
        integrations=integrations,
        message_id=message_id,
    )


@_call
def screen(
    user_id: Identifier = None,
    category: str | None = None,
    name: str | None = None,
    properties: Json = None,
    context: Json = None,
    timestamp: datetime | str | None = None,
    anonymous_id: Identifier = None,
    integrations: Json = None,
    message_id: str | None = None,
    *,
    source: str = DEFAULT_SOURCE,
) -> Built:
    """Record a view of an application's screen. The arguments are those of ``page``."""
    return source, messages.build_message(
        messages.Screen,
        present(),
        user_id=user_id,
        anonymous_id=anonymous_id,
        category=category,
        name=name,
        properties=properties,
        context=context,
        timestamp=timestamp,
        integrations=integrations,
        message_id=message_id,
    )


CALLS: dict[str, Call[...]] = {
    "identify": identify,
    "track": track,
    "page": page,
    "screen": screen,
    "group": group,
    "alias": alias,
}
