"""Judge what a check has read of the sources: ok, warn or fail, with how to fix it. No I/O.

The findings of the Redis server are in ``server_findings``, those of the workers in
``worker_findings``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from celery_segment.buffer import check_format
from celery_segment.delivery.answer import Answer, Failure, Unauthorized
from celery_segment.errors import ConfigurationError, SegmentError
from celery_segment.operations.unconfigured import is_of_another
from celery_segment.producer.recording import CAPTURE
from celery_segment.text import counted, duration, one_line

if TYPE_CHECKING:
    from celery_segment.buffer import Snapshot
    from celery_segment.config import Source
    from celery_segment.delivery.oauth.tokens import Token
    from celery_segment.operations.unconfigured import Unconfigured

__all__ = [
    "Finding",
    "is_waited_for_workers",
    "of_capture",
    "of_endpoint",
    "of_error",
    "of_figures",
    "of_format",
    "of_owner",
    "of_spilled",
    "of_stray",
    "of_token",
    "of_unconfigured",
]

#: Seconds for which messages of another application's source may wait.
OF_ANOTHER = 3_600
#: Seconds by which a clock may differ from the authorization server's.
CLOCK = 30
#: The status of a proxy that asks for a user and a password.
PROXY_LOGIN = 407
#: Seconds after which a message was claimed, had a worker looked at the source.
UNCLAIMED = 1.0
#: Thresholds of the age of the oldest message, in flush_intervals.
LATE, TOO_LATE = 2, 10

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of a check.

    Attributes:
        check: The name of the check.
        source: The name of the source; None if the check is not about a source.
        state: "ok", "warn" or "fail".
        found: What was found.
        hint: How to fix it; empty if the state is "ok".
    """

    check: str
    source: str | None
    state: State
    found: str
    hint: str = ""


def of_error(check: str, error: SegmentError, source: str | None = None) -> Finding:
    """Return an error of this library as a failed finding."""
    hint = one_line(error.hint) or "correct it, and check again"
    return Finding(check, source, "fail", one_line(error.problem), hint)


def of_capture(worker: str | None = None) -> Finding:
    """Report a process that captures calls as tests do, and so loses them.

    Args:
        worker: The worker's name; None for this process.
    """
    where = "here" if worker is None else f"in {one_line(worker)}, for the calls of its tasks"
    found = f"calls are captured as in tests, and never delivered: {CAPTURE} is 1 {where}"
    restart = "" if worker is None else ", and restart it"
    hint = f"remove it from the environment{restart}"
    return Finding("capture", None, "fail", found, hint)


# ---------------------------------------------------------------- sources


def of_owner(source: Source, owner: str, application: str) -> Finding:
    """Judge whether another application delivers the source from the same Redis."""
    if owner in {"", application}:
        return Finding("owner", source.name, "ok", owner or "no worker was started yet")
    found = f"application {one_line(owner)!r} delivers this source, and this is {application!r}"
    hint = "if they are not to share its messages, give each a segment_namespace"
    return Finding("owner", source.name, "warn", found, hint)


def of_format(source: Source, stored: int) -> Finding:
    """Judge whether this release reads what is stored of a source."""
    try:
        check_format(source.name, stored)
    except ConfigurationError as error:
        return of_error("format", error, source.name)
    return Finding("format", source.name, "ok", f"format {stored}, which this release reads")


def of_unconfigured(found: Unconfigured, application: str) -> Iterator[Finding]:
    """Judge whether Redis holds messages of sources that are not configured.

    Args:
        found: The sources.
        application: The name of this application: another one may share the database.
    """
    for name, figures in found.figures.items():
        if is_of_another(figures, application) and figures.oldest < OF_ANOTHER:
            owner = f"application {one_line(figures.owner)!r} delivers it"
            yield Finding("configured", one_line(name), "ok", f"not here: {owner}")
            continue
        parts = (
            (figures.waiting, f"waiting, the oldest for {duration(figures.oldest)}"),
            (figures.dead.messages, "in dead letters"),
        )
        texts = [f"{counted(count, 'message')} {where}" for count, where in parts if count]
        if figures.uncalled_batches:
            texts.append(f"{counted(figures.uncalled_batches, 'batch')} whose callbacks wait")
        hint = _moved_by(one_line(name))
        problem = f"not configured, so nobody delivers {'; '.join(texts)}"
        if is_of_another(figures, application):
            owner = f"application {one_line(figures.owner)!r}"
            problem = f"not configured here; {owner} has not delivered {'; '.join(texts)}"
            hint = f"see its workers; {hint}"
        yield Finding("configured", one_line(name), "warn", problem, hint)
    if not found.figures:
        known = "no other source has messages here"
        if not found.is_complete:
            known += ", as far as could be searched: the database has too many keys for more"
        yield Finding("sources", None, "ok", known)


def _moved_by(name: str) -> str:
    source, is_shard, _ = name.partition("/")
    if is_shard:
        rename = f"`celery segment rename {name} {source}`"
        return f"if {source} has fewer segment_shards now, {rename} moves them"
    rename = f"`celery segment rename {name} NEW`"
    return f"if it was renamed, {rename} moves them; if not, add it to segment_sources"


def of_spilled(name: str, count: int) -> Finding:
    """Report that the spill file has messages of a source that is not configured."""
    verb = "is" if count == 1 else "are"
    found = f"{counted(count, 'message')} {verb} in segment_spill_path of this host"
    hint = f"run `celery segment rename {one_line(name)} NEW` on this host, too"
    return Finding("spilled", one_line(name), "warn", found, hint)


def of_stray(stray: Mapping[str, str]) -> Iterator[Finding]:
    """Report settings that are not read as they are spelt; that of a write key with its check.

    Args:
        stray: Their right names.
    """
    for name, right in stray.items():
        if name.lower() != "segment_write_key":
            hint = f"if it is meant for this library, rename it to {right}"
            yield Finding("settings", None, "warn", f"{name} is not read", hint)


def of_endpoint(source: Source, result: Answer | Failure, took: float) -> Finding:
    """Judge whether the endpoint is reachable; any HTTP response of it counts as reachable.

    Args:
        source: The source.
        result: The response, or why there is none.
        took: How long the request took, in seconds.
    """
    proxy = "check the URL, user and password in segment_proxies, or the environment's proxies"
    if isinstance(result, Answer):
        if result.status == PROXY_LOGIN:
            found = f"the proxy refuses the request to {source.host} (HTTP 407)"
            return Finding("endpoint", source.name, "fail", found, proxy)
        found = f"{source.host} answers in {took * 1000:,.0f} ms (HTTP {result.status})"
        return Finding("endpoint", source.name, "ok", found)
    hint = "check segment_host, the name server, the firewall, and segment_proxies"
    if "CERTIFICATE" in result.cause:
        hint = "set segment_ca_bundle to the certificates of its CA, or correct segment_host"
    if result.kind == "configuration":
        hint = proxy
    return Finding("endpoint", source.name, "fail", one_line(result.cause), hint)


def of_token(source: Source, result: Token | Unauthorized, skew: float) -> Finding:
    """Judge whether the authorization server grants this process a token.

    Args:
        source: The source.
        result: The token, or why there is none.
        skew: By how many seconds this host's clock is ahead of the server's.
    """
    if isinstance(result, Unauthorized):
        hint = "compare segment_oauth with the OAuth application, and its keys, in Segment"
        if result.wait is not None:
            hint = "check auth_server in segment_oauth, the firewall, and segment_proxies"
        return Finding("token", source.name, "fail", one_line(result.cause), hint)
    found = f"granted for {duration(result.life)}"
    if abs(skew) > CLOCK:
        way = "ahead of" if skew > 0 else "behind"
        found += f"; this host's clock is {duration(abs(skew))} {way} the authorization server's"
        hint = "set the clock of this host; until then, deliveries allow for it"
        return Finding("token", source.name, "warn", found, hint)
    return Finding("token", source.name, "ok", found)


def of_figures(
    source: Source, figures: Snapshot, leased: int, queue: str | None
) -> Iterator[Finding]:
    """Judge a source's figures.

    Args:
        source: The source.
        figures: Its figures.
        leased: The number of batches in flight whose lease has not expired.
        queue: The queue of the workers' tasks, if it is set by segment_queue.
    """
    yield _gate(source.name, figures)
    yield _oldest(source, figures, leased, queue)
    if figures.dead.messages:
        found = counted(figures.dead.messages, "message")
        hint = f"`celery segment dead list --source {source.name}` shows why"
        yield Finding("dead letters", source.name, "warn", found, hint)
    else:
        yield Finding("dead letters", source.name, "ok", "none")


def _gate(name: str, figures: Snapshot) -> Finding:
    resume = f"`celery segment resume --source {name}`"
    match figures.gate.state:
        case "paused":
            return Finding("gate", name, "warn", "paused by an operator", f"run {resume}")
        case "closed":
            hint = f"fix the cause, then run {resume} to deliver at once"
            return Finding("gate", name, "warn", one_line(str(figures.gate)), hint)
        case "probing":
            found = f"the next batch tests whether it works again: {one_line(figures.gate.reason)}"
            hint = f"fix the cause, then run {resume} to deliver at once"
            return Finding("gate", name, "warn", found, hint)
        case _:
            return Finding("gate", name, "ok", "open")


def is_waited_for_workers(figures: Snapshot) -> bool:
    """Return whether messages wait for longer than a worker at work lets them."""
    return bool(figures.waiting) and figures.gate.state == "open" and figures.oldest >= UNCLAIMED


def _oldest(source: Source, figures: Snapshot, leased: int, queue: str | None) -> Finding:
    if not figures.waiting:
        return Finding("oldest", source.name, "ok", "no message is waiting")
    age = figures.oldest
    found = f"{counted(figures.waiting, 'message')} waiting, the oldest for {duration(age)}"
    if age <= LATE * source.flush_interval:
        return Finding("oldest", source.name, "ok", found)
    if figures.gate.state in {"closed", "paused"}:
        return Finding("oldest", source.name, "warn", found, "see the gate check")
    if leased:
        hint = "workers are delivering: see their log for retries, or start more workers"
        return Finding("oldest", source.name, "warn", found, hint)
    found += ", and no worker claims them"
    hint = (
        "start a worker; if one runs, make sure that it consumes the queue of segment.drain, has"
        " the write key, and uses this process' broker_url and segment_redis_url"
    )
    if queue:
        hint = f"start a worker that consumes segment_queue: `celery worker -Q {queue}`"
    late = age > TOO_LATE * source.flush_interval + source.lease
    return Finding("oldest", source.name, "fail" if late else "warn", found, hint)
