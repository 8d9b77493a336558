"""Which dead letters a command is about: its source, and what is asked of them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import Any, NamedTuple

import click

from celery_segment.config import DEFAULT_SOURCE

__all__ = ["Only", "only_option", "source_option"]

source_option = click.option(
    "--source", default=DEFAULT_SOURCE, show_default=True, metavar="NAME", help="The source."
)

_AGE = re.compile(r"(\d{1,9})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class Only(NamedTuple):
    """What is asked of a dead letter; times in seconds since the epoch. False when nothing is."""

    reason: str | None
    since: float | None
    until: float | None

    def __bool__(self) -> bool:
        return any(part is not None for part in self)


def _text(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value == "":
        # Of a variable that is not set, it would choose all.
        text = "an empty text chooses nothing; leave it out, or use --all"
        raise click.BadParameter(text, ctx, param)
    return value


def _time(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Return the seconds since the epoch of ISO 8601, local without a zone, or of an age."""
    if value is None:
        return None
    if age := _AGE.fullmatch(value):
        return time.time() - int(age[1]) * _SECONDS[age[2]]
    try:
        # Before Python 3.11 there is no Z in ISO 8601.
        return datetime.fromisoformat(re.sub("[zZ]$", "+00:00", value)).timestamp()
    except (ValueError, OverflowError):
        text = "is neither a time such as 2026-11-23T07:00Z nor an age such as 2h, 30m or 7d"
        raise click.BadParameter(f"{value!r} {text}", ctx, param) from None


_reason = click.option(
    "--reason", callback=_text, metavar="TEXT", help="Only what was given up for such a reason."
)
_since = click.option(
    "--since",
    callback=_time,
    metavar="TIME",
    help="Only what was given up then or later; ISO 8601, or an age such as 2h.",
)
_until = click.option(
    "--until",
    callback=_time,
    metavar="TIME",
    help="Only what was given up before; ISO 8601, or an age such as 30m or 7d.",
)


def only_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--reason``, ``--since`` and ``--until``, as its argument ``only``."""

    @wraps(function)
    def with_only(
        *args: Any, reason: str | None, since: float | None, until: float | None, **kwargs: Any
    ) -> Any:
        return function(*args, only=Only(reason, since, until), **kwargs)

    return _reason(_since(_until(with_only)))
