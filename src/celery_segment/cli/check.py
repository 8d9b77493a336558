"""``check``: check Redis, the workers and the sources, and print how to fix problems."""

from __future__ import annotations

import json
from dataclasses import asdict

import click
from celery.bin.base import CeleryCommand, handle_preload_options
from celery.utils.nodenames import default_nodename, host_format
from rich.table import Table
from rich.text import Text

from celery_segment.cli.common import app_of, console_of, json_option, names_option
from celery_segment.errors import ConfigurationError
from celery_segment.operations.findings import Finding, of_error
from celery_segment.operations.health import check_all, check_worker
from celery_segment.runtime import runtime_of

__all__ = ["check"]

COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@click.command(cls=CeleryCommand)
@names_option
@json_option
@click.option("--no-endpoint", is_flag=True, help="Skip the check of the endpoint.")
@click.option(
    "--worker",
    metavar="NAME",
    help="Check only the worker with this name (its -n), such as celery@%h; use it as the"
    " health check of a container.",
)
@click.option("--strict", is_flag=True, help="Exit with status 1 for warnings, too.")
@click.pass_context
@handle_preload_options
def check(
    ctx: click.Context,
    names: tuple[str, ...],
    as_json: bool,
    no_endpoint: bool,
    worker: str | None,
    strict: bool,
) -> None:
    """Check Redis, the workers and the sources.

    The workers are asked how they are configured, and are compared with this
    process: run it where the calls are made. The output says how to fix each
    problem. Nothing is sent to Segment: the request to its endpoint carries no
    write key and no messages. The exit status is 1 if a check fails. The command
    takes at most ten seconds.
    """
    app = app_of(ctx)
    try:
        settings = runtime_of(app).settings
    except ConfigurationError as error:
        findings = [of_error("settings", error)]
    else:
        sources = [settings.source(name) for name in dict.fromkeys(names) or settings.sources]
        findings = list(
            check_worker(app, sources, host_format(default_nodename(worker)))
            if worker
            else check_all(app, sources, ask_endpoints=not no_endpoint)
        )
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        console = console_of(ctx)
        with console.capture() as captured:
            console.print(_table(findings))
        for line in captured.get().splitlines():
            click.echo(line.rstrip())
    states = {finding.state for finding in findings}
    ctx.exit(1 if "fail" in states or (strict and "warn" in states) else 0)


def _table(findings: list[Finding]) -> Table:
    """Return a grid with one row per check, whose text is wrapped on a narrow terminal."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(3):
        grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for finding in findings:
        grid.add_row(
            Text(finding.state, COLOURS[finding.state]),
            Text(finding.source or "-"),
            Text(finding.check),
            Text(": ".join(filter(None, (finding.found, finding.hint)))),
        )
    return grid
