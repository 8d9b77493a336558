"""The six calls. Their arguments have the order of those of Segment's Python library."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, ParamSpec, cast

from celery import shared_task
from celery._state import get_current_app
from celery.local import Proxy

from celery_segment import messages
from celery_segment.calls.arguments import EventName, Identifier, Json, Properties, Traits
from celery_segment.calls.identity import STACKS, current_attempt
from celery_segment.calls.task import Built, Call
from celery_segment.config import DEFAULT_SOURCE
from celery_segment.visitor import current_visitor

__all__ = ["CALLS", "Call", "alias", "group", "identify", "page", "screen", "track"]

P = ParamSpec("P")


class _Current(Proxy):
    """A proxy for a task of the current application, as ``shared_task`` returns it.

    ``delay``, the method used most, looks the task up directly, which is faster than through
    the proxy.
    """

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "_name", name)
        super().__init__(lambda: get_current_app().tasks[name])

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        app = get_current_app()
        # Reads the value of a cached property, since the property itself would take longer than
        # the rest of this method.
        tasks = app.__dict__.get("tasks") or app.tasks
        return tasks[self._name].delay(*args, **kwargs)

    def adelay(self, *args: Any, **kwargs: Any) -> Any:
        app = get_current_app()
        tasks = app.__dict__.get("tasks") or app.tasks  # as above
        return tasks[self._name].adelay(*args, **kwargs)


def _call(build: Callable[P, Built]) -> Call[P]:
    """Register the task ``segment.<name>``, which has the arguments of ``build``."""

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
    traits: Traits = None,
    context: Json = None,
    timestamp: datetime | str | None = None,
    anonymous_id: Identifier = None,
    integrations: Json = None,
    message_id: str | None = None,
    *,
    source: str = DEFAULT_SOURCE,
) -> Built:
    """Record who a user is, with their traits.

    Args:
        user_id: The user's id in your database. This or ``anonymous_id`` is required.
        traits: Attributes of the user: name, email, plan, …
        context: Additional context: ip, userAgent, locale, page, campaign, …
        timestamp: The time of the event, as a datetime or ISO 8601 text; by default, the
            current time. A datetime without a time zone is local time if it is within five
            seconds of the current time, and UTC otherwise.
        anonymous_id: An id of the user from before they were known.
        integrations: Destinations to enable or disable, by name.
        message_id: The message's id, of at most 100 characters; by default, a new UUID.
            Segment discards a message whose id it has received within about a day.
        source: The name of the source in ``segment_sources``.
    """
    return source, messages.build_message(
        messages.Identify,
        current_visitor(),
        current_attempt() if STACKS else None,
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
    event: EventName = None,
    properties: Properties = None,
    context: Json = None,
    timestamp: datetime | str | None = None,
    anonymous_id: Identifier = None,
    integrations: Json = None,
    message_id: str | None = None,
    *,
    source: str = DEFAULT_SOURCE,
) -> Built:
    """Record an action of a user: an ``event`` such as "Item Purchased", and its ``properties``.

    The other arguments are those of ``identify``.
    """
    return source, messages.build_message(
        messages.Track,
        current_visitor(),
        current_attempt() if STACKS else None,
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
    """Record that a user who had ``previous_id`` now has ``user_id``. Both are required.

    The other arguments are those of ``identify``.
    """
    return source, messages.build_message(
        messages.Alias,
        current_visitor(),
        current_attempt() if STACKS else None,
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
    traits: Traits = None,
    context: Json = None,
    timestamp: datetime | str | None = None,
    anonymous_id: Identifier = None,
    integrations: Json = None,
    message_id: str | None = None,
    *,
    source: str = DEFAULT_SOURCE,
) -> Built:
    """Record that a user belongs to a group, with the group's ``traits``.

    ``group_id`` is required. The other arguments are those of ``identify``.
    """
    return source, messages.build_message(
        messages.Group,
        current_visitor(),
        current_attempt() if STACKS else None,
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
    properties: Properties = None,
    context: Json = None,
    timestamp: datetime | str | None = None,
    anonymous_id: Identifier = None,
    integrations: Json = None,
    message_id: str | None = None,
    *,
    source: str = DEFAULT_SOURCE,
) -> Built:
    """Record a view of a website's page.

    ``properties`` may have any keys; Segment has a meaning for ``url``, ``title``,
    ``referrer`` and ``path``. The other arguments are those of ``identify``.
    """
    return source, messages.build_message(
        messages.Page,
        current_visitor(),
        current_attempt() if STACKS else None,
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
    properties: Properties = None,
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
        current_visitor(),
        current_attempt() if STACKS else None,
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
