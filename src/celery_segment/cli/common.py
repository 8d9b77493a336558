"""What the commands share: their options, the application, words and numbers for people."""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Literal

import click
from rich import box
from rich.console import Console
from rich.table import Table

from celery_segment.text import counted

__all__ = [
    "WIDE",
    "app_of",
    "console_of",
    "counted",
    "duration",
    "json_option",
    "names_option",
    "one_line",
    "printable",
    "source_names",
    "table",
]

#: Columns where there is no terminal: a row is a line, for grep and awk.
WIDE = 2_000

#: DEL and the C1 controls, which JSON leaves as they are and terminals obey.
_CONTROLS = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))

names_option = click.option(
    "--source",
    "names",
    multiple=True,
    metavar="NAME",
    help="A source; may be given several times. All sources when none is named.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def app_of(ctx: click.Context) -> Any:
    """Return the Celery application of ``-A``, with its settings and tasks in place."""
    app = ctx.obj.app
    app.loader.import_default_modules()
    app.finalize()
    return app


def source_names(app: Any, names: tuple[str, ...]) -> list[str]:
    """Return the sources that were named, else all that are configured.

    Raises:
        ConfigurationError: A setting is wrong, or there is no such source.
    """
    from celery_segment.config import settings_of

    settings = settings_of(app)
    return [settings.source(name).name for name in dict.fromkeys(names) or settings.sources]


def console_of(ctx: click.Context, *, stderr: bool = False) -> Console:
    """Return a console that suits a terminal, and a pipe as well."""
    colours: Literal["auto"] | None = None if ctx.obj.no_color else "auto"
    console = Console(stderr=stderr, highlight=False, color_system=colours)
    if not console.is_terminal:
        console.width = WIDE
    return console


def table(*columns: str, words: Container[str] = ()) -> Table:
    """Make an empty table of numbers; ``words`` are the columns that hold text."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for name in columns:
        # Where the terminal is narrow the words give way; a number is never cut.
        text = name in words
        justify: Literal["left", "right"] = "left" if text else "right"
        made.add_column(name, justify=justify, no_wrap=not text, overflow="fold")
    return made


def duration(seconds: float) -> str:
    """Return such as "45 s", "3 min 20 s" or "2 d 4 h"."""
    left = round(seconds)
    parts: list[str] = []
    for unit, size in _UNITS:
        number, left = divmod(left, size)
        if number or parts:
            parts.append(f"{number} {unit}" if number else "")
    return " ".join(part for part in parts[:2] if part) or "0 s"


def one_line(text: str) -> str:
    """Return a text of any origin as one line that cannot steer a terminal."""
    return "".join(
        c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.split())
    )


def printable(text: str) -> str:
    """Return a JSON text as an equal one that cannot steer a terminal."""
    return text.translate(_CONTROLS)
