"""``check``: is everything fit to carry messages, and is what was stored worth its name?"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Overdue
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from threading import Thread
from typing import Any, TypeVar

import click
from celery.bin.base import CeleryCommand, handle_preload_options
from celery.utils.nodenames import default_nodename, host_format
from rich.table import Table
from rich.text import Text

from celery_segment.buffer import Buffer, Snapshot, buffer_of
from celery_segment.buffer.pool import Pool
from celery_segment.buffer.server_info import ServerFacts, look_at_server, taken
from celery_segment.cli.common import app_of, console_of, json_option, names_option
from celery_segment.cli.verdicts import (
    Finding,
    of_endpoint,
    of_error,
    of_figures,
    of_key,
    of_server,
    of_worker,
    of_workers,
)
from celery_segment.config import Settings, Source, settings_of
from celery_segment.delivery.outcome import Answer, Failure
from celery_segment.delivery.transport import reach
from celery_segment.errors import ConfigurationError, SegmentError
from celery_segment.producer.wake import impatient_connection

__all__ = ["check"]

T = TypeVar("T")
#: An endpoint's answer, when there is one, and in how many seconds.
_Reached = Future[tuple[Answer | Failure, float]]

#: Seconds until whatever has not answered is told to hang.
LIMIT = 7.0
#: Seconds for one operation on Redis and for one request, where the settings allow more.
REDIS, ENDPOINT = 2.0, 5.0
#: Seconds that the workers have to answer; and one that is named, which is not waited for longer.
WORKERS, WORKER = 1.0, 4.0
#: The task that a worker must know.
DELIVER = "segment.deliver"
VALID = Finding("settings", None, "ok", "valid")
COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@click.command(cls=CeleryCommand)
@names_option
@json_option
@click.option("--no-endpoint", is_flag=True, help="Do not ask whether the endpoint is reachable.")
@click.option(
    "--worker",
    metavar="NAME",
    help="Ask this worker alone, named as by its -n (celery@%h): the health check of a container.",
)
@click.option("--strict", is_flag=True, help="Let warnings fail, too.")
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
    """Look at Redis, the workers, and each source, and tell what to mend.

    Nothing is sent to Segment: its endpoint is asked without a key. The exit
    status is 1 when something failed. It takes ten seconds at the most.
    """
    app = app_of(ctx)
    try:
        settings = settings_of(app)
    except ConfigurationError as error:
        findings = [of_error("settings", error)]
    else:
        sources = [settings.source(name) for name in dict.fromkeys(names) or settings.sources]
        findings = list(
            _check_worker(app, sources, host_format(default_nodename(worker)))
            if worker
            else _check(app, settings, sources, ask_endpoints=not no_endpoint)
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


# ---------------------------------------------------------------- asking


@dataclass(frozen=True, slots=True)
class _Stored:
    """What Redis told: of itself and, source by source, the figures and what is taken."""

    facts: ServerFacts
    figures: dict[str, tuple[Snapshot, int] | SegmentError]


def _check(
    app: Any, settings: Settings, sources: list[Source], *, ask_endpoints: bool
) -> Iterator[Finding]:
    """Ask everything at the same time, and tell it in an order that is always the same."""
    deadline = time.monotonic() + LIMIT
    yield VALID
    enabled = [source for source in sources if source.enabled]
    if not enabled:
        yield from _of_sources(sources, None, {}, deadline)
        return
    workers = _aside(partial(_ask_workers, app))
    endpoints = _ask_endpoints(enabled) if ask_endpoints else {}
    stored: _Stored | None = None
    try:
        buffer_of(app, enabled[0].name)  # whether there is a Redis to ask
        stored = _aside(partial(_ask_redis, settings, enabled)).result(_left(deadline))
        yield from of_server(stored.facts)
    except SegmentError as error:
        yield of_error("redis", error)
    except Overdue:
        mend = "check the server, the network and the name server behind segment_redis_url"
        yield Finding("redis", None, "fail", f"no answer within {LIMIT:g} s", mend)
    yield _of_workers(workers, deadline, of_workers)
    yield from _of_sources(sources, stored, endpoints, deadline)


def _check_worker(app: Any, sources: list[Source], name: str) -> Iterator[Finding]:
    """Look at what is one worker's own: a failure of Redis or the endpoint is all workers'."""
    deadline = time.monotonic() + LIMIT
    yield VALID
    worker = _aside(partial(_ask_workers, app, name))
    yield _of_workers(worker, deadline, partial(of_worker, name))
    yield from _of_sources(sources, None, {}, deadline)


def _aside(ask: Callable[[], T]) -> Future[T]:
    """Ask in a thread that may be left behind: a resolver heeds no timeout."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(ask())
        except BaseException as error:  # noqa: BLE001 - raised where the answer is awaited
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future


def _left(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0)


def _ask_redis(settings: Settings, sources: list[Source]) -> _Stored:
    # A pool of its own: segment_redis_timeout may be a minute.
    with closing(Pool(settings.redis_url, min(settings.redis_timeout, REDIS))) as pool:
        facts = look_at_server(pool)
        serves = facts.info.get("loading") != "1"
        return _Stored(facts, {s.name: _figures(pool, s) for s in sources if serves})


def _figures(pool: Pool, source: Source) -> tuple[Snapshot, int] | SegmentError:
    try:
        return Buffer(pool, source).snapshot(), taken(pool, source.name)
    except SegmentError as error:
        return error


def _ask_workers(app: Any, name: str | None = None) -> dict[str, object]:
    """Ask the workers for their tasks: all of them, or the one that is named."""
    asked, seconds = ([name], WORKER) if name else (None, WORKERS)
    with impatient_connection(app) as broker:
        inspect = app.control.inspect(asked, seconds, connection=broker)
        return inspect.registered() or {}


def _ask_endpoints(sources: list[Source]) -> dict[str, _Reached]:
    """Ask for the endpoint of each source; for one that several share, once."""

    def ask(source: Source) -> tuple[Answer | Failure, float]:
        started = time.monotonic()
        result = reach(replace(source, timeout=min(source.timeout, ENDPOINT)))
        return result, time.monotonic() - started

    asked: dict[tuple[object, ...], _Reached] = {}
    found = {}
    for source in sources:
        way = (source.host, source.timeout, source.ca_bundle, str(source.proxies))
        if way not in asked:
            asked[way] = _aside(partial(ask, source))
        found[source.name] = asked[way]
    return found


# ---------------------------------------------------------------- telling


def _of_workers(
    asked: Future[dict[str, object]],
    deadline: float,
    judge: Callable[[dict[str, object], str], Finding],
) -> Finding:
    mend = "check that the broker runs, and broker_url: no worker is reached without it"
    try:
        return judge(asked.result(_left(deadline)), DELIVER)
    except Overdue:
        return Finding("workers", None, "fail", f"the broker hangs for {LIMIT:g} s", mend)
    except Exception as error:  # noqa: BLE001 - whatever a broker's client raises
        found = f"the broker is out of reach ({type(error).__name__})"
        return Finding("workers", None, "fail", found, mend)


def _of_sources(
    sources: list[Source],
    stored: _Stored | None,
    endpoints: dict[str, _Reached],
    deadline: float,
) -> Iterator[Finding]:
    for source in sources:
        if not source.enabled:
            yield Finding("enabled", source.name, "ok", "no: calls validate, and store nothing")
            continue
        yield of_key(source)
        if source.name in endpoints:
            yield _of_endpoint(source, endpoints[source.name], deadline)
        found = stored.figures.get(source.name) if stored else None
        if isinstance(found, SegmentError):
            yield of_error("figures", found, source.name)
        elif found:
            yield from of_figures(source, *found)


def _of_endpoint(source: Source, asked: _Reached, deadline: float) -> Finding:
    try:
        result, took = asked.result(_left(deadline))
    except Overdue:
        result, took = Failure(f"no answer from {source.host} within {LIMIT:g} s", "timeout"), LIMIT
    return of_endpoint(source, result, took)


def _table(findings: list[Finding]) -> Table:
    """Return a grid with a line for each check; on a narrow terminal the words fold."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(3):
        grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for finding in findings:
        grid.add_row(
            Text(finding.state, COLOURS[finding.state]),
            Text(finding.source or "-"),
            Text(finding.check),
            Text(": ".join(filter(None, (finding.found, finding.mend)))),
        )
    return grid
