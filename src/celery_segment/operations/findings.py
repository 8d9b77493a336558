"""Judge what a check has read: ok, warn or fail, with how to fix it. No I/O."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from celery_segment.delivery.outcome import Answer, Failure
from celery_segment.errors import SegmentError
from celery_segment.text import counted, duration, megabytes, one_line

if TYPE_CHECKING:
    from celery_segment.buffer import Snapshot
    from celery_segment.buffer.server_info import ServerInfo
    from celery_segment.config import Source

__all__ = [
    "Finding",
    "of_endpoint",
    "of_error",
    "of_figures",
    "of_key",
    "of_server",
    "of_worker",
    "of_workers",
]

OLDEST_VERSION = (6, 2)
#: Thresholds of the used memory, in per cent of maxmemory.
NEARLY_FULL, FULL = 80, 100
#: Largest difference between the clocks of Redis and this host, in seconds.
CLOCKS = 5.0
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


# ---------------------------------------------------------------- Redis


def of_server(facts: ServerInfo) -> Iterator[Finding]:
    """Judge a Redis server: whether it serves requests, and how durably it stores messages."""
    info, milliseconds = facts.info, facts.round_trip * 1000
    found = f"{facts.address} answers in {milliseconds:.2f} ms"
    if info.get("loading") == "1":
        left = duration(float(info.get("loading_eta_seconds", 0)))
        hint = f"wait about {left}: until then it accepts no calls"
        yield Finding("redis", None, "fail", f"{found}, but is loading its data", hint)
    else:
        yield Finding("redis", None, "ok", found)
    yield _clock(facts.ahead)
    if not info:
        hint = "allow the user of segment_redis_url to run INFO, or check the server yourself"
        yield Finding("server", None, "warn", "INFO could not be read", hint)
    else:
        yield _version(info)
        yield _role(info)
        yield _memory(info)
        yield _eviction(info)
        yield from _persistence(facts)
        yield _replicas(facts)


def _clock(ahead: float) -> Finding:
    if abs(ahead) <= CLOCKS:
        return Finding("clock", None, "ok", f"within {CLOCKS:g} s of this host's")
    found = f"{duration(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} this host's"
    return Finding(
        "clock",
        None,
        "warn",
        found,
        "synchronise both with NTP: events carry the time of this host",
    )


def _version(info: Mapping[str, str]) -> Finding:
    version = info.get("redis_version", "0")
    valkey = info.get("valkey_version")
    found = f"Valkey {valkey}" if valkey else f"Redis {version}"
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST_VERSION:
        return Finding("version", None, "fail", found, "upgrade to Redis 6.2 or later, or Valkey")
    return Finding("version", None, "ok", found)


def _role(info: Mapping[str, str]) -> Finding:
    if info.get("role") != "slave":
        return Finding("role", None, "ok", "primary")
    kind = "a read-only replica" if info.get("slave_read_only", "1") == "1" else "a replica"
    primary = f"{info.get('master_host')}:{info.get('master_port')}"
    hint = "point segment_redis_url at the primary"
    return Finding("role", None, "fail", f"{kind} of {one_line(primary)}", hint)


def _memory(info: Mapping[str, str]) -> Finding:
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if not most:
        return Finding("memory", None, "ok", f"{megabytes(used)} used, no maxmemory")
    share = 100 * used / most
    found = f"{megabytes(used)} used, {share:.0f} % of maxmemory ({megabytes(most)})"
    if share >= FULL:
        hint = "raise maxmemory, or let the workers drain it: calls are refused"
        return Finding("memory", None, "fail", found, hint)
    if share > NEARLY_FULL:
        return Finding("memory", None, "warn", found, "raise maxmemory before it is full")
    return Finding("memory", None, "ok", found)


def _eviction(info: Mapping[str, str]) -> Finding:
    policy = info.get("maxmemory_policy")
    if policy == "noeviction":
        return Finding("eviction", None, "ok", policy)
    if policy is None:
        hint = "make sure that maxmemory-policy is noeviction: any other policy deletes messages"
        return Finding("eviction", None, "warn", "maxmemory-policy could not be read", hint)
    hint = "set maxmemory-policy noeviction: this policy deletes messages when memory runs out"
    return Finding("eviction", None, "fail", one_line(policy), hint)


def _persistence(facts: ServerInfo) -> Iterator[Finding]:
    info = facts.info
    if info.get("aof_enabled") == "1":
        yield Finding("aof", None, "ok", "on")
        yield _fsync(facts.config.get("appendfsync"))
    else:
        yield Finding("aof", None, "warn", f"off: {_loss_when_killed(facts)}", "set appendonly yes")
    names = {"aof_last_write_status": "the AOF", "rdb_last_bgsave_status": "a snapshot"}
    failing = [what for name, what in names.items() if info.get(name, "ok") != "ok"]
    if failing:
        found = f"Redis failed to write {' and '.join(failing)}"
        hint = "see its log, and check that its disk is writable and not full"
        yield Finding("disk", None, "fail", found, hint)
    else:
        yield Finding("disk", None, "ok", "the last writes succeeded")


def _fsync(policy: str | None) -> Finding:
    if policy == "always":
        return Finding("fsync", None, "ok", "always: nothing is lost")
    if policy == "everysec":
        lost = "a power failure loses about a second; killing Redis loses what is not written yet"
        found = f"everysec: {lost}"
        return Finding("fsync", None, "ok", found)
    hint = "set appendfsync everysec, or always"
    if policy is None:
        found = "appendfsync could not be read (CONFIG is forbidden)"
        return Finding("fsync", None, "warn", found, f"check it yourself: {hint}")
    found = f"{policy}: a power failure loses what is not on disk yet, up to half a minute"
    return Finding("fsync", None, "warn", found, hint)


def _loss_when_killed(facts: ServerInfo) -> str:
    save = facts.config.get("save")
    if save == "":
        return "killing Redis loses everything, since there are no snapshots either"
    last = int(facts.info.get("rdb_last_save_time", 0))
    ago = f" (or its start), {duration(max(time.time() + facts.ahead - last, 0))} ago"
    since = "its last snapshot" + (ago if last else "")
    return f"killing Redis loses everything since {since}" + (
        "" if save else "; whether it makes snapshots could not be read"
    )


def _replicas(facts: ServerInfo) -> Finding:
    info = facts.info
    replicas = counted(int(info.get("connected_slaves", 0)), "replica")
    least = int(facts.config.get("min-replicas-to-write", 0))
    good = int(info.get("min_slaves_good_slaves", least))
    found = f"{replicas} connected"
    if good < least:
        hint = "repair the replicas, or lower min-replicas-to-write: calls are refused"
        found = f"{found}, {good} within min-replicas-max-lag, {least} needed to write"
        return Finding("replicas", None, "fail", found, hint)
    return Finding("replicas", None, "ok", found + (f", {least} needed to write" if least else ""))


# ---------------------------------------------------------------- workers


def of_workers(answers: Mapping[str, object], task: str) -> Finding:
    """Judge the workers by their answers, which are the names of their tasks."""
    able = [tasks for tasks in answers.values() if isinstance(tasks, list) and task in tasks]
    if able:
        verb = "answers" if len(able) == 1 else "answer"
        return Finding("workers", None, "ok", f"{counted(len(able), 'worker')} {verb}")
    if answers:
        found = f"{counted(len(answers), 'worker')} without the task {task}"
        return Finding(
            "workers",
            None,
            "warn",
            found,
            "set imports = ['celery_segment'] in their configuration",
        )
    hint = "start one with `celery worker`"
    return Finding("workers", None, "warn", "no worker answers", hint)


def of_worker(name: str, answers: Mapping[str, object], task: str) -> Finding:
    """Judge one worker that is expected to run: if it does not answer, that is a failure."""
    tasks = answers.get(name)
    if not isinstance(tasks, list):
        hint = "check that it runs, and its name (-n); restart it if it hangs"
        return Finding("worker", None, "fail", f"{one_line(name)} does not answer", hint)
    if task not in tasks:
        hint = "set imports = ['celery_segment'] in its configuration"
        return Finding("worker", None, "fail", f"{name} does not have the task {task}", hint)
    return Finding("worker", None, "ok", f"{name} answers")


# ---------------------------------------------------------------- sources


def of_key(source: Source) -> Finding:
    """Judge whether this process has the write key, which delivery needs."""
    if source.write_key is not None:
        return Finding("write key", source.name, "ok", "present")
    hint = "if this is a worker's environment, set segment_write_key or SEGMENT_WRITE_KEY"
    return Finding("write key", source.name, "warn", "absent; only workers need it", hint)


def of_endpoint(source: Source, result: Answer | Failure, took: float) -> Finding:
    """Judge whether the endpoint is reachable; any HTTP response counts as reachable.

    Args:
        source: The source.
        result: The response, or why there is none.
        took: How long the request took, in seconds.
    """
    if isinstance(result, Answer):
        found = f"{source.host} answers in {took * 1000:,.0f} ms (HTTP {result.status})"
        return Finding("endpoint", source.name, "ok", found)
    hint = "check segment_host, the name server, the firewall, and segment_proxies"
    if "CERTIFICATE" in result.cause:
        hint = "set segment_ca_bundle to the certificates of its CA, or correct segment_host"
    return Finding("endpoint", source.name, "fail", one_line(result.cause), hint)


def of_figures(source: Source, figures: Snapshot, leased: int) -> Iterator[Finding]:
    """Judge a source's figures.

    Args:
        source: The source.
        figures: Its figures.
        leased: The number of batches in flight whose lease has not expired.
    """
    yield _gate(source.name, figures)
    yield _oldest(source, figures, leased)
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
            found = "one batch tests whether the failing endpoint works again"
            hint = "see the workers' log for the failures of the endpoint"
            return Finding("gate", name, "warn", found, hint)
        case _:
            return Finding("gate", name, "ok", "open")


def _oldest(source: Source, figures: Snapshot, leased: int) -> Finding:
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
    hint = "start a worker, and make sure that it consumes the queue of segment.drain"
    late = age > TOO_LATE * source.flush_interval + source.lease
    return Finding("oldest", source.name, "fail" if late else "warn", found, hint)
