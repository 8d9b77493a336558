"""``import``: store the messages of files."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click
import msgspec
from celery.bin.base import CeleryCommand, handle_preload_options
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from celery_segment.cli.common import app_of, console_of, json_option
from celery_segment.cli.selecting import source_option
from celery_segment.errors import ConfigurationError, ImportRefused, ImportUnfinished
from celery_segment.importing import FORMATS, File, Import, Rejected, Watch
from celery_segment.messages import TYPES
from celery_segment.text import counted, one_line

__all__ = ["import_"]

#: Exit statuses.
REJECTED, REFUSED, UNFINISHED, SIGNALLED = 1, 2, 3, 128
#: Seconds before the same reason for waiting is printed again.
QUIET = 60.0
#: Number of rejected records that a dry run prints.
SHOWN = 20


@click.command("import", cls=CeleryCommand)
@click.argument(
    "names",
    nargs=-1,
    required=True,
    metavar="FILE...|-",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
)
@source_option
@click.option(
    "--format",
    "file_format",
    type=click.Choice(FORMATS),
    help="Input format; by default inferred from the file name.",
)
@click.option(
    "--type",
    "default_type",
    type=click.Choice(list(TYPES)),
    help="Type of records that have none.",
)
@click.option(
    "--text",
    "texts",
    multiple=True,
    metavar="COLUMN",
    help="CSV column whose cells are always strings; may be given several times.",
)
@click.option(
    "--plan",
    "plan",
    is_flag=False,
    flag_value="",
    metavar="[PLAN.json]",
    help="Reject records that violate this tracking plan; without a file, the one of the source.",
)
@click.option("--dry-run", is_flag=True, help="Read and validate the files, but store nothing.")
@click.option("--resume", is_flag=True, help="Continue an earlier import of the same files.")
@click.option(
    "--rejects",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PATH",
    help="File for rejected records; by default FILE.rejects.",
)
@click.option(
    "--checkpoint",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PATH",
    help="File that records the progress; by default FILE.checkpoint.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="Longest time to wait for room in the buffer, or for Redis.",
)
@json_option
@click.pass_context
@handle_preload_options
def import_(
    ctx: click.Context,
    names: tuple[str, ...],
    source: str,
    file_format: str | None,
    default_type: str | None,
    texts: tuple[str, ...],
    plan: str | None,
    dry_run: bool,
    resume: bool,
    rejects: Path | None,
    checkpoint: Path | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Import messages from NDJSON or CSV files.

    A file may be compressed with gzip; - is standard input. The messages are
    stored for the workers to deliver.

    The exit status is 0 if all records were imported, 1 if some were rejected, 2 if
    the import cannot start as requested, and 3 if it ended early: repeat the command
    with --resume to continue it.
    """
    try:
        work = Import(
            app_of(ctx),
            names,
            source=source,
            file_format=file_format,
            default_type=default_type,
            texts=texts,
            plan=plan or plan is not None,
            rejects=rejects,
            checkpoint=checkpoint,
            resume=resume,
            dry_run=dry_run,
            timeout=timeout,
        )
        status, why = _run(work, console_of(ctx, stderr=True), shows_rejected=dry_run)
    except (ConfigurationError, ImportRefused) as error:
        raise _failure(str(error), REFUSED) from error
    if as_json:
        click.echo(json.dumps({file.name: _figures(file) for file in work.files}))
    else:
        _print_totals(work.files, "would import" if dry_run else "imported")
    if why:
        raise _failure(why, status)
    ctx.exit(status)


def _failure(text: str, status: int) -> click.ClickException:
    failure = click.ClickException(one_line(text))
    failure.exit_code = status  # type: ignore[misc]  # click reads it from the instance
    return failure


def _run(work: Import, console: Console, *, shows_rejected: bool) -> tuple[int, str]:
    """Run the import; return the exit status, and the reason if it ended early."""
    progress = _Progress(console, shows_rejected=shows_rejected)
    with progress.bars, _signals() as signals:
        try:
            work.run(progress)
        except ImportUnfinished as error:
            return UNFINISHED, f"{error}. {_how_to_continue(work.files)}"
        except KeyboardInterrupt:
            return SIGNALLED + signals[-1], f"interrupted. {_how_to_continue(work.files)}"
    return (REJECTED if any(file.state.figures.rejected for file in work.files) else 0), ""


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Handle SIGTERM like Ctrl-C; yield the list of the signals received."""
    received: list[int] = []

    def end(number: int, _frame: object) -> NoReturn:
        received.append(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# ---------------------------------------------------------------- output


def _how_to_continue(files: Sequence[File]) -> str:
    file = next((file for file in files if not file.state.finished), files[-1])
    where = f"{file.name} is imported up to line {file.state.position.line:,}"
    if file.checkpoint:
        return f"{where}: repeat the command with --resume to continue"
    return (
        f"{where}: the same command starts over, with the same ids; with --checkpoint PATH, an"
        " import can be resumed"
    )


def _figures(file: File) -> dict[str, Any]:
    state = file.state
    figures = msgspec.structs.asdict(state.figures)
    rejects = str(file.rejects.path) if file.rejects and figures["rejected"] else None
    return {**figures, "rejects": rejects, "finished": state.finished}


def _print_totals(files: Sequence[File], done: str) -> None:
    for file in files:
        figures = file.state.figures
        text = f"{file.name}: {done} {counted(figures.taken, 'message')}"
        if figures.dropped:
            text += f", dropped {figures.dropped:,} by segment_before_send"
        if figures.rejected:
            text += f", rejected {figures.rejected:,}"
            text += f": see {file.rejects.path}" if file.rejects else ""
        if figures.records or file.state.finished:
            click.echo(one_line(text))


class _Rate(ProgressColumn):
    """Shows records per second, for a task that counts bytes."""

    def render(self, task: Task) -> Text:
        return Text(f"{(task.speed or 0) * task.fields['per_byte']:,.0f}/s")


class _Progress(Watch):
    """Shows a bar on a terminal, and always prints what the import waits for."""

    def __init__(self, console: Console, *, shows_rejected: bool) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[records]:,} records"),
            _Rate(),
            TimeRemainingColumn(),
        )
        quiet = not console.is_terminal
        self.bars = Progress(*columns, console=console, transient=True, disable=quiet)
        self._bar: TaskID | None = None
        self._to_print = SHOWN if shows_rejected else 0
        self._printed: dict[str, float] = {}

    def begins(self, file: File) -> None:
        if self._bar is not None:
            self.bars.remove_task(self._bar)
            self._bar = None
        if file.resumed:
            self._print(f"{file.name}: continues after line {file.state.position.line:,}")

    def settled(self, file: File) -> None:
        records, read = file.state.figures.records, file.input.read()
        if self._bar is None:
            name, size = one_line(file.name), file.input.size
            self._bar = self.bars.add_task(name, total=size, records=0, per_byte=0)
        per_byte = records / read if read else 0
        self.bars.update(self._bar, completed=read, records=records, per_byte=per_byte)

    def rejected(self, file: File, rejected: Sequence[Rejected]) -> None:
        for each in rejected[: self._to_print]:
            field = f"{each.field}: " if each.field else ""
            rule = f" [{each.rule}]" if each.rule else ""
            self._print(f"{file.name}:{each.line}: {field}{each.reason}{rule}")
        self._to_print = max(self._to_print - len(rejected), 0)

    def waits(self, why: str) -> None:
        now = time.monotonic()
        if now - self._printed.get(why, -QUIET) >= QUIET:
            self._printed[why] = now
            self._print(f"waiting: {why}")

    def _print(self, text: str) -> None:
        self.bars.console.print(Text(one_line(text)))
