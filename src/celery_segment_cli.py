"""Entry point of the operator's commands, ``celery -A proj segment …``.

Celery imports this module whenever ``celery`` starts, for every application in the
environment. It is a module outside the package, because importing the package registers
its tasks and its tick, also in an application that does not use celery-segment. Each
command, with its dependencies, is imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click
from celery.bin.base import handle_preload_options

__all__ = ["segment"]

_COMMANDS = {
    "status": "status:status",
    "tail": "tail:tail",
    "send": "send:send",
    "flush": "flush:flush",
    "deliver": "deliver:deliver",
    "pause": "gate:pause",
    "resume": "gate:resume",
    "dead": "dead:dead",
    "forget": "forget:forget",
    "rename": "rename:rename",
    "move": "move:move",
    "check": "check:check",
    "plan": "plan:plan",
    "debugger": "debugger:debugger",
    "metrics": "metrics:metrics",
    "web": "web:web",
    "import": "import_:import_",
}


class _Commands(click.Group):
    """Imports each command on first use, and reports the library's errors in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        module, _, name = _COMMANDS.get(cmd_name, "").partition(":")
        command = getattr(import_module(f"celery_segment.cli.{module}"), name) if module else None
        return command if isinstance(command, click.Command) else None

    def invoke(self, ctx: click.Context) -> Any:
        from celery_segment.errors import SegmentError
        from celery_segment.text import one_line

        try:
            return super().invoke(ctx)
        except SegmentError as error:
            raise click.ClickException(one_line(str(error))) from error


@click.group(cls=_Commands)
@click.pass_context
@handle_preload_options
def segment(ctx: click.Context) -> None:
    """Inspect and operate the buffer and the delivery to Segment."""
