"""``plan``: get a tracking plan, generate its events' classes, compare, and see violations."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType
from typing import Any

import click
from celery.bin.base import CeleryCommand, handle_preload_options
from rich.text import Text

from celery_segment.cli.common import app_of, console_of, json_option, table
from celery_segment.cli.selecting import source_option
from celery_segment.errors import ConfigurationError
from celery_segment.events.plan.model import Plan
from celery_segment.events.plan.reading import parse_plan, read_plan
from celery_segment.runtime import runtime_of
from celery_segment.text import counted, one_line

__all__ = ["plan"]

_plan_option = click.option(
    "--plan",
    "path",
    type=click.Path(dir_okay=False),
    metavar="PLAN.json",
    help="File with the plan; by default, the segment_tracking_plan of the source.",
)


@click.group()
def plan() -> None:
    """Get a tracking plan, generate its events' classes, and see how calls keep to it.

    None of these commands but violations needs Redis.
    """


@plan.command(cls=CeleryCommand)
@click.argument("plan_id", metavar="ID")
@click.argument("file", type=click.Path(dir_okay=False), metavar="PLAN.json")
@click.option(
    "--region",
    type=click.Choice(["us", "eu"]),
    default="us",
    show_default=True,
    help="Region of the workspace.",
)
@click.option("--url", metavar="URL", help="Address of the Public API, in place of a region's.")
@click.pass_context
@handle_preload_options
def pull(ctx: click.Context, plan_id: str, file: str, region: str, url: str | None) -> None:  # noqa: ARG001
    """Get the tracking plan with this ID from Segment's Public API.

    It is written to a file, to be committed. The environment variable
    SEGMENT_PUBLIC_API_TOKEN is a token of the Public API that may read tracking
    plans. Where the API is busy, the command waits for as long as it says.
    """
    from celery_segment.events.plan.public_api import REGIONS, TOKEN, PublicApi

    content = PublicApi(url or REGIONS[region], os.environ.get(TOKEN, "")).pull(plan_id)
    parsed = parse_plan(content)
    _write(file, json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True) + "\n")
    click.echo(f"{file}: {_about(parsed)}")


@plan.command(cls=CeleryCommand)
@click.argument("file", type=click.Path(dir_okay=False), metavar="FILE.py")
@_plan_option
@source_option
@click.option("--check", is_flag=True, help="Write nothing; exit with status 1 if it would differ.")
@click.pass_context
@handle_preload_options
def generate(ctx: click.Context, file: str, path: str | None, source: str, check: bool) -> None:
    """Generate a module with a class for each event of the plan.

    The module is to be committed. It is formatted by ruff, with the settings of the
    project that it is in. The same plan gives the same bytes. Needs the extra
    codegen: pip install 'celery-segment[codegen]'.
    """
    from celery_segment.events.plan.generating import generate as module_of

    found = _plan(ctx, path, source)
    text = module_of(found, file)
    present = Path(file)
    try:
        is_same = present.read_text("utf-8") == text
    except (OSError, UnicodeDecodeError):
        is_same = False
    if check:
        said = "is what the plan gives" if is_same else "differs from what the plan gives"
        click.echo(f"{file} {said}")
        ctx.exit(0 if is_same else 1)
    if not is_same:
        _write(file, text)
    click.echo(f"{file}: {_about(found)}{' (no change)' if is_same else ''}")


@plan.command(cls=CeleryCommand)
@click.argument("modules", nargs=-1, required=True, metavar="MODULE...")
@_plan_option
@source_option
@click.pass_context
@handle_preload_options
def check(ctx: click.Context, modules: tuple[str, ...], path: str | None, source: str) -> None:
    """Compare the classes of modules, such as shop.events, with the plan.

    There is a line for each event that has no class, each class or property that is
    not planned, each planned property that a class lacks, and each value that a
    class takes and the plan does not. A class may be stricter than the plan. The
    exit status is 1 if there are any.
    """
    from celery_segment.events.plan.drift import classes_of, drift

    found = _plan(ctx, path, source)
    classes = [cls for name in modules for cls in classes_of(_module(name))]
    agreed = f"{counted(len(set(classes)), 'class')} and {_about(found)} agree"
    _finish(ctx, drift(found, classes), agreed)


@plan.command(cls=CeleryCommand)
@click.argument("old", type=click.Path(dir_okay=False), metavar="OLD.json")
@click.argument("new", type=click.Path(dir_okay=False), metavar="NEW.json")
@click.pass_context
@handle_preload_options
def diff(ctx: click.Context, old: str, new: str) -> None:
    """Say in what the second of two plans differs from the first.

    Lines begin with + for a rule that is added, - for one that is removed, and ~ for
    a change. The exit status is 1 if there are any.
    """
    from celery_segment.events.plan.diff import diff as lines_of

    _finish(ctx, lines_of(read_plan(old), read_plan(new)), "no difference")


@plan.command(cls=CeleryCommand)
@source_option
@json_option
@click.pass_context
@handle_preload_options
def violations(ctx: click.Context, source: str, as_json: bool) -> None:
    """Show how messages have violated the plan of a source, by event, path and rule.

    They are counted since the beginning, without their values. Of a message that
    violates the plan in several ways, the first one counts.
    """
    from celery_segment.operations.admin import admin_of

    runtime = runtime_of(app_of(ctx))
    found = admin_of(runtime, runtime.settings.source(source).name).violations()
    if as_json:
        click.echo(json.dumps([each._asdict() for each in found]))
    elif not found:
        click.echo(f"{source}: no violations")
    else:
        made = table("messages", "event", "path", "rule", words={"event", "path", "rule"})
        for each in found:
            event = f"{each.type} {each.event}".strip() or "others"
            cells = (Text(one_line(cell) or "-") for cell in (event, each.path, each.rule))
            made.add_row(f"{each.messages:,}", *cells)
        console_of(ctx).print(made)


def _plan(ctx: click.Context, path: str | None, source: str) -> Plan:
    if path is None:
        path = runtime_of(app_of(ctx)).settings.source(source).tracking_plan
    if path is None:
        raise ConfigurationError(
            f"source {source!r} has no tracking plan",
            hint="set segment_tracking_plan, or give one with --plan",
        )
    return read_plan(path)


def _module(name: str) -> ModuleType:
    # As for Celery's own -A, what is in the working directory can be imported.
    sys.path.insert(0, "")
    try:
        found: Any = resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"{name} cannot be imported: {one_line(str(error))}") from None
    finally:
        sys.path.remove("")
    if not isinstance(found, ModuleType):
        raise ConfigurationError(f"{name} is no module: give one such as shop.events")
    return found


def _about(found: Plan) -> str:
    name = f" of {one_line(found.name)}" if found.name else ""
    return f"{counted(len(found.rules), 'rule')}{name}"


def _write(file: str, text: str) -> None:
    try:
        Path(file).write_text(text, "utf-8")
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be written: {error.strerror}") from None


def _finish(ctx: click.Context, lines: Iterable[str], otherwise: str) -> None:
    """Print lines, and exit with status 1; print something else if there are none."""
    there_are = False
    for line in lines:
        there_are = True
        click.echo(one_line(line))
    if not there_are:
        click.echo(otherwise)
    ctx.exit(1 if there_are else 0)
