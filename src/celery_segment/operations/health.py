"""Check that Redis, the workers and the endpoints are reachable and configured well.

All of them are asked at the same time, each with a limit of a few seconds, and the findings
are always in the same order.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Overdue
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from celery_segment.buffer import BufferAdmin, Snapshot, Topology, connect
from celery_segment.buffer.rights import OPERATOR, PRODUCER
from celery_segment.buffer.server_info import ServerInfo, count_leased, read_servers
from celery_segment.config import DEFAULT_SOURCE, Settings, Source
from celery_segment.errors import SegmentError
from celery_segment.operations.findings import (
    Finding,
    is_waited_for_workers,
    of_capture,
    of_error,
    of_figures,
    of_format,
    of_owner,
    of_spilled,
    of_stray,
    of_unconfigured,
)
from celery_segment.operations.interviews import Answers, Unaskable, ask_workers
from celery_segment.operations.plan_findings import of_plans
from celery_segment.operations.remote import LIMIT, Remote, ask_remote, in_thread, left
from celery_segment.operations.server_findings import of_broker, of_server
from celery_segment.operations.unconfigured import Unconfigured, find_unconfigured
from celery_segment.operations.worker_findings import (
    of_agreement,
    of_key,
    of_oauth,
    of_unaskable,
    of_worker,
    of_workers,
)
from celery_segment.runtime import Runtime, runtime_of
from celery_segment.worker.receiving import check_content

__all__ = ["check_all", "check_redis", "check_worker", "check_workers"]

T = TypeVar("T")

#: Longest time for one operation on Redis, in seconds, even if the settings allow more.
REDIS = 2.0
VALID = Finding("settings", None, "ok", "valid")


def check_redis(settings: Settings) -> Iterator[Finding]:
    """Check the Redis server of the buffer, for a process that only makes calls.

    Raises:
        SegmentError: It is unreachable, or refuses the user.
    """
    with closing(_impatient(settings)) as topology:
        servers = read_servers(topology, settings.shards.values(), PRODUCER)
        yield from _of_servers(servers, settings.enabled)


@dataclass(frozen=True, slots=True)
class _Stored:
    """Answers of Redis: the server's state and, by source, its figures and leased batches.

    Attributes:
        application: The name of the application that asked.
        servers: The state of each server.
        figures: By the source's name.
        unconfigured: Sources that are stored and not configured.
    """

    application: str
    servers: Sequence[ServerInfo]
    figures: dict[str, tuple[Snapshot, int] | SegmentError]
    unconfigured: Unconfigured | SegmentError


@dataclass(frozen=True, slots=True)
class _Asked:
    """What was asked for the sources.

    Attributes:
        stored: The answers of Redis, if there are any.
        remote: Those of the endpoints and the authorization servers.
        answers: Those of the workers.
        stray: The right names of settings that are not read as they are spelt.
        queue: The queue of the workers' tasks, if it is set by segment_queue.
    """

    stored: _Stored | None = None
    remote: Remote = field(default_factory=Remote)
    answers: Answers = field(default_factory=Answers)
    stray: Mapping[str, str] = field(default_factory=dict)
    queue: str | None = None


def check_all(app: Any, sources: list[Source], *, ask_endpoints: bool) -> Iterator[Finding]:
    """Check Redis, the workers and the given sources.

    Args:
        app: The Celery application.
        sources: The sources.
        ask_endpoints: Whether to check that the endpoints are reachable.
    """
    runtime = runtime_of(app)
    deadline = time.monotonic() + LIMIT
    yield VALID
    yield from of_plans(runtime.plans, sources)
    enabled = [source for source in sources if source.enabled]
    if not enabled:
        yield from _of_sources(sources, _Asked(), deadline)
        return
    if runtime.loses_calls:
        yield of_capture()
    stray = runtime.settings.misnamed
    yield from of_stray(stray)
    try:
        check_content(app)
    except SegmentError as error:
        yield of_error("tasks", error)
    workers = in_thread(partial(ask_workers, app))
    remote = ask_remote(enabled) if ask_endpoints else Remote()
    redis = in_thread(partial(_ask_redis, app.main or "", runtime, enabled))
    stored = yield from _of_redis(redis, runtime, enabled, deadline)
    if stored and runtime.settings.shares_broker:
        yield from of_broker(stored.servers, retries=app.conf.broker_channel_error_retry)
    queue = runtime.settings.queue
    answers = yield from _of_workers(workers, queue, stored, deadline)
    asked = _Asked(stored, remote, answers, stray, queue)
    yield from _of_sources(sources, asked, deadline)


def _of_redis(
    asked: Future[_Stored], runtime: Runtime, enabled: list[Source], deadline: float
) -> Generator[Finding, None, _Stored | None]:
    """Judge Redis; return its answers, or None."""
    try:
        stored = asked.result(left(deadline))
        yield from _of_servers(stored.servers, enabled)
        if isinstance(stored.unconfigured, SegmentError):
            yield of_error("sources", stored.unconfigured)
        else:
            yield from of_unconfigured(stored.unconfigured, stored.application)
        yield from _of_spilled(runtime)
    except SegmentError as error:
        yield of_error("redis", error)
    except Overdue:
        hint = "check the server, the network and the name server behind segment_redis_url"
        yield Finding("redis", None, "fail", f"no answer within {LIMIT:g} s", hint)
    else:
        return stored
    return None


def _of_spilled(runtime: Runtime) -> Iterator[Finding]:
    """Report what this host's file holds of sources that are not configured."""
    spilled = runtime.spill.sources() if runtime.spill is not None else {}
    for name in sorted({*spilled} - {*runtime.settings.shards}):
        yield of_spilled(name, spilled[name])


def check_worker(app: Any, sources: list[Source], name: str) -> Iterator[Finding]:
    """Check one worker, without Redis and the endpoints: restarting it would not fix those."""
    deadline = time.monotonic() + LIMIT
    yield VALID
    found = _answers(in_thread(partial(ask_workers, app, name)), deadline, name)
    yield of_worker(name, found) if isinstance(found, Answers) else found
    yield from _of_sources(sources, _Asked(), deadline)


def check_workers(app: Any, sources: Iterable[Source]) -> tuple[Answers, list[Finding]]:
    """Ask the workers how they are configured, and judge it, without Redis and the endpoints.

    Args:
        app: The Celery application.
        sources: The sources whose write keys they are to have.

    Returns:
        Their answers, none where they could not be asked; and the findings.
    """
    deadline, queue = time.monotonic() + LIMIT, runtime_of(app).settings.queue
    found = _answers(in_thread(partial(ask_workers, app)), deadline)
    if isinstance(found, Finding):
        return Answers(), [found]
    findings = [*of_workers(found, queue), *of_agreement(found)]
    for source in sources:
        if source.enabled and found.facts:
            findings += [of_key(source, found), *of_oauth(source, found)]
    return found, findings


def _of_servers(servers: Sequence[ServerInfo], sources: list[Source]) -> Iterator[Finding]:
    """Judge the servers of the buffer; where there are several, each by its address."""
    for server in servers:
        where = f"{server.address}: " if len(servers) > 1 else ""
        for finding in of_server(server, sources):
            is_named = finding.check == "redis"
            yield finding if is_named else replace(finding, found=f"{where}{finding.found}")


def _impatient(settings: Settings) -> Topology:
    """Return the servers with a short timeout, since segment_redis_timeout may be a minute."""
    timeout = min(settings.redis_timeout, REDIS)
    return connect(settings.redis_url, timeout, settings.redis_options)


def _ask_redis(application: str, runtime: Runtime, sources: list[Source]) -> _Stored:
    runtime.buffer(sources[0].name)  # raises if no Redis is configured
    settings = runtime.settings
    with closing(_impatient(settings)) as topology:
        shards = [shard for source in sources for shard in source.split()]
        servers = read_servers(topology, shards, OPERATOR)
        serves = all(server.info.get("loading") != "1" for server in servers)
        figures = {s.name: _figures(topology, s) for s in sources if serves}
        unconfigured = _unconfigured(topology, settings) if serves else Unconfigured()
        return _Stored(application, servers, figures, unconfigured)


def _unconfigured(topology: Topology, settings: Settings) -> Unconfigured | SegmentError:
    try:
        return find_unconfigured(topology, settings)
    except SegmentError as error:
        return error


def _figures(topology: Topology, source: Source) -> tuple[Snapshot, int] | SegmentError:
    try:
        shards = source.split()
        figures = [BufferAdmin(topology, shard).snapshot() for shard in shards]
        return Snapshot.sum_of(figures), sum(count_leased(topology, shard) for shard in shards)
    except SegmentError as error:
        return error


def _of_workers(
    asked: Future[Answers], queue: str | None, stored: _Stored | None, deadline: float
) -> Generator[Finding, None, Answers]:
    """Judge the workers; return their answers, none where they could not be asked."""
    found = _answers(asked, deadline)
    if isinstance(found, Finding):
        yield found
        return Answers()
    figures = stored.figures.values() if stored else ()
    is_waited_for = any(
        is_waited_for_workers(each[0]) for each in figures if not isinstance(each, SegmentError)
    )
    yield from of_workers(found, queue, is_waited_for=is_waited_for)
    yield from of_agreement(found)
    return found


def _answers(
    asked: Future[Answers], deadline: float, worker: str | None = None
) -> Answers | Finding:
    """Return the workers' answers, or why there are none."""
    hint = "check broker_url, and that the broker runs: workers are reached through it"
    try:
        return asked.result(left(deadline))
    except Unaskable as why:
        return of_unaskable(str(why), worker)
    except Overdue:
        found = f"no answer from the broker within {LIMIT:g} s"
    except Exception as error:  # noqa: BLE001 - the brokers' clients share no base class
        found = f"the broker is unreachable ({type(error).__name__})"
    return Finding("workers", None, "fail", found, hint)


def _of_sources(sources: list[Source], asked: _Asked, deadline: float) -> Iterator[Finding]:
    for source in sources:
        if not source.enabled:
            yield Finding(
                "enabled", source.name, "ok", "no: calls are validated, but nothing is stored"
            )
            continue
        yield of_key(source, asked.answers, _stray_key(source, asked.stray))
        yield from of_oauth(source, asked.answers)
        yield from asked.remote.judge(source, deadline)
        stored = asked.stored
        found = stored.figures.get(source.name) if stored else None
        if isinstance(found, SegmentError):
            yield of_error("figures", found, source.name)
        elif found and stored:
            yield of_owner(source, found[0].owner, stored.application)
            yield of_format(source, found[0].format)
            yield from of_figures(source, *found, asked.queue)


def _stray_key(source: Source, stray: Mapping[str, str]) -> str:
    """Return how to rename a setting that was meant as the default source's write key."""
    names = [name for name in stray if name.lower() == "segment_write_key"]
    if source.name != DEFAULT_SOURCE or not names:
        return ""
    right = stray[names[0]]
    return (
        f"{names[0]} in your settings is not read: rename it to {right}, or set it in the"
        " environment"
    )
