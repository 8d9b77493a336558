"""Check that Redis, the workers and the endpoints are reachable and configured well.

All of them are asked at the same time, each with a limit of a few seconds, and the findings
are always in the same order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Overdue
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from threading import Thread
from typing import Any, TypeVar

from celery_segment.buffer import BufferAdmin, Pool, Snapshot
from celery_segment.buffer.server_info import ServerInfo, count_leased, read_server_info
from celery_segment.config import Settings, Source
from celery_segment.delivery.outcome import Answer, Failure
from celery_segment.delivery.transport import reach
from celery_segment.errors import SegmentError
from celery_segment.operations.findings import (
    Finding,
    of_endpoint,
    of_error,
    of_figures,
    of_key,
    of_owner,
    of_spilled,
    of_unconfigured,
    of_worker,
    of_workers,
)
from celery_segment.operations.server_findings import of_server
from celery_segment.operations.unconfigured import Unconfigured, find_unconfigured
from celery_segment.producer import DELIVER, impatient_connection
from celery_segment.runtime import Runtime, runtime_of
from celery_segment.worker.content import check_content

__all__ = ["check_all", "check_redis", "check_worker"]

T = TypeVar("T")
#: The result of a request to an endpoint, and how many seconds it took.
_Reached = Future[tuple[Answer | Failure, float]]

#: Seconds after which a missing answer is reported as a failure.
LIMIT = 7.0
#: Longest time for one operation on Redis and for one request, in seconds, even if the
#: settings allow more.
REDIS, ENDPOINT = 2.0, 5.0
#: Seconds to wait for the workers' answers; and for the answer of a single worker, which
#: ends the wait.
WORKERS, WORKER = 1.0, 4.0
VALID = Finding("settings", None, "ok", "valid")


def check_redis(settings: Settings) -> Iterator[Finding]:
    """Check the Redis server of the buffer.

    Raises:
        SegmentError: It is unreachable, or refuses the user.
    """
    with closing(_impatient_pool(settings)) as pool:
        yield from of_server(read_server_info(pool), _lowest_share(settings.enabled))


@dataclass(frozen=True, slots=True)
class _Stored:
    """Answers of Redis: the server's state and, by source, its figures and leased batches.

    Attributes:
        application: The name of the application that asked.
        info: The server's state.
        figures: By the source's name.
        unconfigured: Sources that are stored and not configured.
    """

    application: str
    info: ServerInfo
    figures: dict[str, tuple[Snapshot, int] | SegmentError]
    unconfigured: Unconfigured | SegmentError


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
    enabled = [source for source in sources if source.enabled]
    if not enabled:
        yield from _of_sources(sources, None, {}, deadline)
        return
    try:
        check_content(app)
    except SegmentError as error:
        yield of_error("tasks", error)
    workers = _in_thread(partial(_ask_workers, app))
    endpoints = _ask_endpoints(enabled) if ask_endpoints else {}
    stored: _Stored | None = None
    try:
        runtime.buffer(enabled[0].name)  # raises if no Redis is configured
        stored = _in_thread(partial(_ask_redis, app.main or "", runtime.settings, enabled)).result(
            _left(deadline)
        )
        yield from of_server(stored.info, _lowest_share(enabled))
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
    queue = runtime.settings.queue
    yield _of_workers(workers, deadline, partial(of_workers, queue=queue))
    yield from _of_sources(sources, stored, endpoints, deadline, queue)


def _of_spilled(runtime: Runtime) -> Iterator[Finding]:
    """Report what this host's file holds of sources that are not configured."""
    spilled = runtime.spill.sources() if runtime.spill is not None else {}
    for name in sorted({*spilled} - {*runtime.settings.sources}):
        yield of_spilled(name, spilled[name])


def check_worker(app: Any, sources: list[Source], name: str) -> Iterator[Finding]:
    """Check one worker, without Redis and the endpoints: restarting it would not fix those."""
    deadline = time.monotonic() + LIMIT
    yield VALID
    worker = _in_thread(partial(_ask_workers, app, name))
    yield _of_workers(worker, deadline, partial(of_worker, name))
    yield from _of_sources(sources, None, {}, deadline)


def _in_thread(ask: Callable[[], T]) -> Future[T]:
    """Call in a daemon thread, which can be abandoned: name resolution has no timeout."""
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


def _lowest_share(sources: list[Source]) -> float:
    """Return the share of Redis' memory from which on calls of a source are refused."""
    return min((source.max_memory_share for source in sources), default=1.0)


def _impatient_pool(settings: Settings) -> Pool:
    """Return a pool with a short timeout, since segment_redis_timeout may be a minute."""
    return Pool(settings.redis_url, min(settings.redis_timeout, REDIS), settings.redis_options)


def _ask_redis(application: str, settings: Settings, sources: list[Source]) -> _Stored:
    with closing(_impatient_pool(settings)) as pool:
        info = read_server_info(pool)
        serves = info.info.get("loading") != "1"
        figures = {s.name: _figures(pool, s) for s in sources if serves}
        unconfigured = _unconfigured(pool, settings) if serves else Unconfigured()
        return _Stored(application, info, figures, unconfigured)


def _unconfigured(pool: Pool, settings: Settings) -> Unconfigured | SegmentError:
    try:
        return find_unconfigured(pool, settings)
    except SegmentError as error:
        return error


def _figures(pool: Pool, source: Source) -> tuple[Snapshot, int] | SegmentError:
    try:
        return BufferAdmin(pool, source).snapshot(), count_leased(pool, source)
    except SegmentError as error:
        return error


def _ask_workers(app: Any, name: str | None = None) -> dict[str, object]:
    """Ask the workers for the names of their tasks: all workers, or the given one."""
    asked, seconds = ([name], WORKER) if name else (None, WORKERS)
    with impatient_connection(app) as broker:
        inspect = app.control.inspect(asked, seconds, connection=broker)
        answers = inspect.registered() or {}
    # A task with a rate limit of its own is answered as "name [rate_limit=0]".
    return {
        worker: [task.partition(" ")[0] for task in tasks] if isinstance(tasks, list) else tasks
        for worker, tasks in answers.items()
    }


def _ask_endpoints(sources: list[Source]) -> dict[str, _Reached]:
    """Send a request to the endpoint of each source; once if several sources share it."""

    def ask(source: Source) -> tuple[Answer | Failure, float]:
        started = time.monotonic()
        result = reach(replace(source, timeout=min(source.timeout, ENDPOINT)))
        return result, time.monotonic() - started

    asked: dict[tuple[object, ...], _Reached] = {}
    found = {}
    for source in sources:
        route = (source.host, source.timeout, source.ca_bundle, str(source.proxies))
        if route not in asked:
            asked[route] = _in_thread(partial(ask, source))
        found[source.name] = asked[route]
    return found


def _of_workers(
    asked: Future[dict[str, object]],
    deadline: float,
    judge: Callable[[dict[str, object], str], Finding],
) -> Finding:
    hint = "check broker_url, and that the broker runs: workers are reached through it"
    try:
        return judge(asked.result(_left(deadline)), DELIVER)
    except Overdue:
        return Finding(
            "workers", None, "fail", f"no answer from the broker within {LIMIT:g} s", hint
        )
    except Exception as error:  # noqa: BLE001 - the brokers' clients share no base class
        found = f"the broker is unreachable ({type(error).__name__})"
        return Finding("workers", None, "fail", found, hint)


def _of_sources(
    sources: list[Source],
    stored: _Stored | None,
    endpoints: dict[str, _Reached],
    deadline: float,
    queue: str | None = None,
) -> Iterator[Finding]:
    for source in sources:
        if not source.enabled:
            yield Finding(
                "enabled", source.name, "ok", "no: calls are validated, but nothing is stored"
            )
            continue
        yield of_key(source)
        if source.name in endpoints:
            yield _of_endpoint(source, endpoints[source.name], deadline)
        found = stored.figures.get(source.name) if stored else None
        if isinstance(found, SegmentError):
            yield of_error("figures", found, source.name)
        elif found and stored:
            yield of_owner(source, found[0].owner, stored.application)
            yield from of_figures(source, *found, queue)


def _of_endpoint(source: Source, asked: _Reached, deadline: float) -> Finding:
    try:
        result, took = asked.result(_left(deadline))
    except Overdue:
        result, took = Failure(f"no answer from {source.host} within {LIMIT:g} s", "timeout"), LIMIT
    return of_endpoint(source, result, took)
