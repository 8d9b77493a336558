"""Options, the application, the console and tables, shared by the commands."""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Literal

import click
from rich import box
from rich.console import Console
from rich.table import Table

__all__ = [
    "WIDE",
    "app_of",
    "console_of",
    "json_option",
    "names_option",
    "source_names",
    "table",
]

#: Columns without a terminal, so that each row is one line, for grep and awk.
WIDE = 2_000

names_option = click.option(
    "--source",
    "names",
    multiple=True,
    metavar="NAME",
    help="Name of a source; may be given several times. By default all sources.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def app_of(ctx: click.Context) -> Any:
    """Return the Celery application of ``-A``, with its settings and tasks loaded."""
    app = ctx.obj.app
    app.loader.import_default_modules()
    app.finalize()
    return app


def source_names(app: Any, names: tuple[str, ...]) -> list[str]:
    """Return the names of the given sources; by default of all that are configured.

    Raises:
        ConfigurationError: A setting is wrong, or a source is not configured.
    """
    from celery_segment.runtime import runtime_of

    settings = runtime_of(app).settings
    return [settings.source(name).name for name in dict.fromkeys(names) or settings.sources]


def console_of(ctx: click.Context, *, stderr: bool = False) -> Console:
    """Return a console for a terminal; for a pipe, it does not wrap lines."""
    colours: Literal["auto"] | None = None if ctx.obj.no_color else "auto"
    console = Console(stderr=stderr, highlight=False, color_system=colours)
    if not console.is_terminal:
        console.width = WIDE
    return console


def table(*columns: str, words: Container[str] = ()) -> Table:
    """Return an empty table of numbers, except in the columns ``words``, which contain text."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for name in columns:
        # On a narrow terminal, text is wrapped, but a number is never cut.
        text = name in words
        justify: Literal["left", "right"] = "left" if text else "right"
        made.add_column(name, justify=justify, no_wrap=not text, overflow="fold")
    return made
