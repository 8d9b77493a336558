"""Options that select dead letters: their source, and filters by reason, time and group."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

import click

from celery_segment.cli.common import app_of
from celery_segment.config import DEFAULT_SOURCE
from celery_segment.operations.admin import admin_of
from celery_segment.operations.dead_letters import DeadLetters
from celery_segment.operations.reading import read_figures
from celery_segment.operations.source import Analytics
from celery_segment.operations.times import time_of
from celery_segment.runtime import runtime_of

__all__ = ["Filters", "dead_letters_of", "filter_options", "source_option"]

source_option = click.option(
    "--source",
    default=DEFAULT_SOURCE,
    show_default=True,
    metavar="NAME",
    help="Name of the source.",
)


class Filters(NamedTuple):
    """Filters of dead letters, None where not given. False if none is given.

    Attributes:
        reason: A text that the reason contains, ignoring case.
        since: The earliest time, in seconds since the epoch.
        until: The time before which they became dead letters, in seconds since the epoch.
        group: The id of their group.
    """

    reason: str | None
    since: float | None
    until: float | None
    group: str | None

    def __bool__(self) -> bool:
        return any(part is not None for part in self)


def _text(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value == "":
        # It may come from a shell variable that is not set, and would choose all of them.
        text = f"must not be empty: leave the option out to match every {param.human_readable_name}"
        raise click.BadParameter(text, ctx, param)
    return value


def _time(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Parse an ISO 8601 time, local without a zone, or an age, to seconds since the epoch."""
    if value is None:
        return None
    try:
        return time_of(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


_reason = click.option(
    "--reason",
    callback=_text,
    metavar="TEXT",
    help="Only dead letters whose reason contains TEXT, ignoring case.",
)
_since = click.option(
    "--since",
    callback=_time,
    metavar="TIME",
    help="Only dead letters given up at TIME or later: ISO 8601, or an age such as 2h.",
)
_until = click.option(
    "--until",
    callback=_time,
    metavar="TIME",
    help="Only dead letters given up before TIME: ISO 8601, or an age such as 30m or 7d.",
)


_group = click.option(
    "--in-group",
    "group",
    callback=_text,
    metavar="ID",
    help="Only dead letters with messages of this group: ID is shown by `dead list --group`.",
)


def dead_letters_of(ctx: click.Context, source: str) -> DeadLetters:
    """Return the dead letters of a source.

    Raises:
        ConfigurationError: They are stored in a format that this release does not read.
    """
    app = app_of(ctx)
    analytics = Analytics(source, app=app)
    read_figures(admin_of(runtime_of(app), analytics.source), analytics.source)
    return analytics.dead_letters


def filter_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that filter dead letters to a command, as its argument ``filters``."""

    @wraps(function)
    def with_filters(
        *args: Any,
        reason: str | None,
        since: float | None,
        until: float | None,
        group: str | None,
        **kwargs: Any,
    ) -> Any:
        return function(*args, filters=Filters(reason, since, until, group), **kwargs)

    return _reason(_since(_until(_group(with_filters))))
