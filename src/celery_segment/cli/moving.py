"""What the commands share that move all that is stored of a source: options and results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from celery_segment.cli.common import json_option
from celery_segment.operations.moving import SourceMove
from celery_segment.text import counted

__all__ = ["moving_options", "result_of", "text_of"]

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--timeout",
        type=click.FloatRange(min=0),
        default=300.0,
        show_default=True,
        metavar="SECONDS",
        help="Longest time to wait for batches and callbacks that workers hold.",
    ),
    click.option("--dry-run", is_flag=True, help="Count the messages, and move nothing."),
    click.option("--yes", is_flag=True, help="Do not ask for confirmation."),
    json_option,
)


def moving_options(command: F) -> F:
    """Add the options of a command that moves what is stored."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def result_of(move: SourceMove) -> dict[str, Any]:
    """Return what a move has done, for JSON."""
    return {"moved": move.moved, "remaining": move.remaining, "waits_for": move.waits_for}


def text_of(move: SourceMove, to: str = "", *, dry_run: bool = False) -> str:
    """Return what a move has done, or would do, for people.

    Args:
        move: The move.
        to: Where to, in words such as " to shop".
        dry_run: Whether nothing was to be moved.
    """
    if dry_run:
        return f"would move {counted(move.remaining, 'message')}{to}"
    moved = f"moved {counted(move.moved, 'message')}{to}"
    if not move.waits_for:
        return f"{moved}; nothing remains"
    verb = "remains and waits" if move.remaining == 1 else "remain and wait"
    return f"{moved}; {counted(move.remaining, 'message')} {verb} for {move.waits_for}"
