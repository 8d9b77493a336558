"""``dead export``: write dead letters to a file or a pipe."""

from __future__ import annotations

import sys
from typing import Any, BinaryIO, cast

import click
from celery.bin.base import CeleryCommand, handle_preload_options

from celery_segment.cli.selecting import Filters, dead_letters_of, filter_options, source_option
from celery_segment.text import counted, one_line, printable

__all__ = ["export"]


@click.command(cls=CeleryCommand)
@click.argument("file", metavar="FILE|-")
@source_option
@filter_options
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option(
    "--purge", is_flag=True, help="Delete the exported dead letters once the file is on disk."
)
@click.pass_context
@handle_preload_options
def export(
    ctx: click.Context, file: str, source: str, filters: Filters, force: bool, purge: bool
) -> None:
    """Write dead letters to FILE as NDJSON.

    Each line contains one message; - is standard output. The file appears when it is
    complete, and only its owner may read it.
    """
    letters = dead_letters_of(ctx, source)
    to_output = file == "-"
    if to_output and purge:
        raise click.UsageError(
            "--purge needs a FILE: it is not known whether the output was stored."
        )
    target: Any = _output() if to_output else file
    try:
        done = letters.export(target, **filters._asdict(), overwrite=force, purge=purge)
        if to_output:
            target.flush()
    except FileExistsError as error:
        raise click.ClickException(f"{one_line(str(error))}: replace it with --force") from None
    except OSError as error:
        if to_output:
            raise
        text = f"{file}: {error.strerror or error}; no dead letter was deleted"
        raise click.ClickException(one_line(text)) from error
    text = f"{source}: exported {counted(done.messages, 'message')}"
    text += "" if to_output else f" to {one_line(file)}"
    text += f", purged {done.purged:,}" if purge else ""
    click.echo(text, err=to_output)


def _output() -> BinaryIO:
    stream = sys.stdout.buffer
    return cast("BinaryIO", _SafeTerminal(stream)) if sys.stdout.isatty() else stream


class _SafeTerminal:
    """A terminal that messages cannot control.

    DEL and the C1 controls are escaped: JSON permits them, and terminals obey them.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, line: bytes) -> int:
        return self._stream.write(printable(line.decode()).encode())

    def flush(self) -> None:
        self._stream.flush()
