"""Judge what a Redis server says about itself: ok, warn or fail, with how to fix it. No I/O."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from celery_segment.errors import SegmentBufferError
from celery_segment.operations.findings import Finding
from celery_segment.text import counted, duration, megabytes, one_line

if TYPE_CHECKING:
    from celery_segment.buffer.server_info import ServerInfo
    from celery_segment.config import Source

__all__ = ["of_broker", "of_server"]

OLDEST_VERSION = (6, 2)
#: The part of segment_max_memory_share from which on Redis is nearly full.
NEARLY_FULL = 0.8
#: Largest difference between the clocks of Redis and this host, in seconds.
CLOCKS = 5.0


def of_server(facts: ServerInfo, sources: Sequence[Source]) -> Iterator[Finding]:
    """Judge a Redis server: whether it serves requests, and how durably it stores messages.

    Args:
        facts: What the server says about itself.
        sources: The sources of which the strictest settings are what the server has to meet.
    """
    info, milliseconds = facts.info, facts.round_trip * 1000
    kind = "" if facts.topology == "standalone" else f" ({facts.topology})"
    found = f"{facts.address}{kind} answers in {milliseconds:.2f} ms"
    if info.get("loading") == "1":
        left = duration(float(info.get("loading_eta_seconds", 0)))
        hint = f"wait about {left}: until then it accepts no calls"
        yield Finding("redis", None, "fail", f"{found}, but is loading its data", hint)
    else:
        yield Finding("redis", None, "ok", found)
        yield _rights(facts)
    yield _clock(facts.ahead)
    if not info:
        hint = "allow the user of segment_redis_url to run INFO, or check the server yourself"
        yield Finding("server", None, "warn", "INFO could not be read", hint)
        yield _UNKNOWN_MEMORY
    else:
        yield _version(info)
        yield _role(info)
        yield _memory(info, min((source.max_memory_share for source in sources), default=1.0))
        yield _eviction(info)
        yield from _persistence(facts)
        yield _replicas(facts, sources)


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


def _rights(facts: ServerInfo) -> Finding:
    refused = facts.refused
    if not refused:
        return Finding("rights", None, "ok", "the user may run every command that is needed")
    if isinstance(refused, SegmentBufferError):
        return Finding("rights", None, "fail", refused.problem, refused.hint)
    found = f"the user may not run {', '.join(refused)}"
    hint = "allow the user of segment_redis_url what the docs list under least rights"
    return Finding("rights", None, "fail", found, hint)


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


_UNKNOWN_MEMORY = Finding(
    "memory",
    None,
    "warn",
    "could not be read: segment_max_memory_share is not kept, so messages may fill Redis",
    "allow the user of segment_redis_url to run INFO, or set segment_max_buffer_bytes",
)


def _memory(info: Mapping[str, str], max_share: float) -> Finding:
    if not {"used_memory", "maxmemory"} <= info.keys():
        return _UNKNOWN_MEMORY
    # As Redis and the buffer's scripts count it.
    used = int(info["used_memory"]) - int(info.get("mem_not_counted_for_evict", 0))
    most = int(info["maxmemory"])
    if not most:
        return Finding("memory", None, "ok", f"{megabytes(used)} used, no maxmemory")
    share = used / most
    found = f"{megabytes(used)} used, {share * 100:.0f} % of maxmemory ({megabytes(most)})"
    limit = f"segment_max_memory_share ({max_share * 100:.0f} %)"
    remedy = "let the workers drain it, raise maxmemory, or give the buffer a Redis of its own"
    if share > max_share:
        found = f"{found}, more than {limit}: calls are refused"
        return Finding("memory", None, "fail", found, remedy)
    if share >= NEARLY_FULL * max_share:
        found = f"{found}; above {limit} calls are refused"
        return Finding("memory", None, "warn", found, remedy)
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


def _replicas(facts: ServerInfo, sources: Sequence[Source]) -> Finding:
    connected, waits = _connected(facts), [source.wait_replicas for source in sources]
    least = int(facts.config.get("min-replicas-to-write", 0))
    good = int(facts.info.get("min_slaves_good_slaves", least))
    found = f"{counted(connected, 'replica')} connected"
    if good < least:
        hint = "repair the replicas, or lower min-replicas-to-write: calls are refused"
        found = f"{found}, {good} within min-replicas-max-lag, {least} needed to write"
        return Finding("replicas", None, "fail", found, hint)
    if (most := max(waits, default=0)) > connected:
        hint = "repair the replicas, or lower segment_wait_replicas: calls are not confirmed"
        found = f"{found}, and segment_wait_replicas is {most}"
        return Finding("replicas", None, "fail", found, hint)
    found += f", {least} needed to write" if least else ""
    waiting = min(filter(None, waits), default=connected)
    if waiting < connected:
        # docs/how-to/topologies.md. It is no mistake where writes are paused before.
        lost = "messages may be lost when a primary that still runs is replaced"
        found += f"; segment_wait_replicas is {waiting}: {lost}"
    return Finding("replicas", None, "ok", found)


def _connected(facts: ServerInfo) -> int:
    return int(facts.info.get("connected_slaves", 0))


def of_broker(servers: Sequence[ServerInfo], *, retries: bool) -> Iterator[Finding]:
    """Report where a failover of the broker's Redis ends the workers.

    Args:
        servers: The servers of the buffer, which are the broker's as well.
        retries: Celery's ``broker_channel_error_retry``.
    """
    if not retries and any(s.topology == "standalone" and _connected(s) for s in servers):
        found = "it has replicas, and Celery's workers end if one takes over its address"
        yield Finding("broker", None, "warn", found, "set broker_channel_error_retry = True")
