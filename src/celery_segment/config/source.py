"""Declare the settings that may differ between sources: see ``settings``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from celery_segment.config import parsers
from celery_segment.config.declaration import setting
from celery_segment.config.oauth import OAuth, oauth
from celery_segment.errors import ConfigurationError

__all__ = ["DEFAULT_SOURCE", "MAX_BATCH_BYTES", "MAX_BATCH_MESSAGES", "MIN_BATCH_BYTES", "Source"]

DEFAULT_SOURCE = "default"
#: Segment's limits for one request to its batch endpoint (HTTP Tracking API, "Batch").
MAX_BATCH_BYTES = 500_000
MAX_BATCH_MESSAGES = 2_500
MAX_SHARDS = 100
#: Least part of a limit that each shard has, in bytes.
_LEAST_DEAD_BYTES, _LEAST_BUFFER_BYTES = 1_000_000, 100_000
#: Size of a batch, in bytes, that has room for one message of the maximum size.
MIN_BATCH_BYTES = 33_000

_SHARD_NAME = re.compile(r"([^/]+)/([1-9][0-9]{0,3})")
#: How many requests an attempt with OAuth may make: two with the batch, and two for a token.
_OAUTH_REQUESTS = 4


@dataclass(frozen=True, kw_only=True)
class Source:
    """A Segment source: its name, and the settings that may differ between sources.

    Attributes:
        name: Its name in ``segment_sources``.
        namespace: The namespace of its keys in Redis, ``segment_namespace``.
        shard: Which of its shards this is, from 0 on; see ``split``.
    """

    name: str
    namespace: str = ""
    shard: int = 0
    write_key: parsers.WriteKey | None = setting(
        None,
        parsers.write_key,
        "Write key of the source. Only workers need it.",
        show="environment variable `SEGMENT_WRITE_KEY`",
        secret=True,
        from_environment=True,
    )
    oauth: OAuth | None = setting(
        None,
        oauth,
        "Credentials of OAuth 2.0, with which workers get a token that authorizes their requests:"
        " `client_id`, `private_key` (PEM text or the path of a file), `key_id`, and if need be"
        " `auth_server` and `scope`. Needs the extra `oauth` in the workers, and the write key.",
        show="environment variable `SEGMENT_OAUTH`, as JSON",
        secret=True,
        from_environment=True,
    )
    host: str = setting(
        "https://api.segment.io",
        parsers.host,
        "Base URL of Segment's API, or of a compatible endpoint.",
    )
    allow_http: bool = setting(
        False,
        parsers.boolean,
        "Allow a `segment_host` with plain http on another machine. The write key is then sent"
        " unencrypted.",
    )
    enabled: bool = setting(
        True,
        parsers.boolean,
        "Store and deliver messages. When False, calls are validated and nothing is stored.",
    )
    flush_at: int = setting(
        20,
        parsers.whole(1),
        "Number of buffered messages at which a flush is due at the latest. Workers flush all that"
        " waits about four times a second, so this many are reached only while no worker is free.",
    )
    flush_interval: float = setting(
        10.0,
        parsers.number(0.1, 86_400),
        "Seconds after which a flush is due at the latest. Below 0.25, workers look at the buffer"
        " this often. `segment check` reports messages that wait for longer than twice this time.",
    )
    max_batch_bytes: int = setting(
        MAX_BATCH_BYTES,
        parsers.whole(MIN_BATCH_BYTES, MAX_BATCH_BYTES),
        "Maximum size of a request body in bytes, envelope included, before compression. With"
        " `segment_oauth`, the write key in the body comes on top; 500,000 is never exceeded.",
    )
    max_batch_messages: int = setting(
        MAX_BATCH_MESSAGES,
        parsers.whole(1, MAX_BATCH_MESSAGES),
        "Maximum number of messages in a request.",
    )
    max_buffer_bytes: int | None = setting(
        None,
        parsers.whole(_LEAST_BUFFER_BYTES),
        "Maximum size of the waiting messages in bytes; beyond it, `segment_on_full` applies. By"
        " default, the `maxmemory` of Redis is the only limit.",
    )
    max_memory_share: float = setting(
        0.75,
        parsers.number(0.1, 1),
        "Maximum share of its `maxmemory` that Redis may use; beyond it, `segment_on_full` applies."
        " The rest is left to the other users of this Redis, such as Celery's broker. With 1, only"
        " the `maxmemory` itself limits the buffer.",
    )
    on_full: str = setting(
        "raise",
        parsers.choice("raise", "drop"),
        "What a call does when the buffer is full: `raise` BufferFull, or `drop` the message and"
        " count it.",
    )
    on_unavailable: str = setting(
        "raise",
        parsers.choice("raise", "drop", "spill"),
        "What a call does when Redis is unreachable: `raise` BufferUnavailable, `drop` the message"
        " and count it, or `spill` it to the file `segment_spill_path`. Spilled messages are moved"
        " to Redis automatically when it is back.",
    )
    wait_replicas: int = setting(
        0,
        parsers.whole(0, 100),
        "Number of replicas of Redis that have a message before its call returns, an import goes"
        " on, a spilled message is deleted from its file, or a moved one from where it was. Where"
        " they do not confirm a call in time, `segment_on_unavailable` applies; the others stop, or"
        " try again later. By default, only the primary has it for sure, and a failover loses what"
        " no replica had received.",
    )
    on_invalid: str = setting(
        "raise",
        parsers.choice("raise", "log"),
        "What a call does when it is not valid: `raise` the error, or `log` it once for each place"
        " in the code, without the data, and count it.",
    )
    shards: int = setting(
        1,
        parsers.whole(1, MAX_SHARDS),
        "Number of parts in which the source is stored, each in a slot of its own of a Redis"
        " Cluster. Its limits, such as `segment_max_inflight`, are divided among them.",
    )
    ordered: bool = setting(
        False,
        parsers.boolean,
        "Deliver each user's messages in the order of the calls: those of a user are in one shard,"
        " and of each shard one batch at a time is under way.",
    )
    context: dict[str, Any] | None = setting(
        None,
        parsers.json_object,
        "Default context, merged into every message; the call's own values win.",
        secret=True,
    )
    integrations: dict[str, Any] | None = setting(
        None,
        parsers.json_object,
        "Default destinations, merged into every message; the call's own values win.",
    )
    before_send: Callable[..., Any] | None = setting(
        None,
        parsers.callable_or_path,
        "Callable, or its dotted path, that receives every message as a dict when the call is made"
        " (with `delay_on_commit`, when the transaction commits), and returns it, changed or"
        " unchanged, or None to drop it.",
    )
    tracking_plan: str | None = setting(
        None,
        parsers.existing_file,
        "JSON file with the tracking plan that calls are held to, as Segment's Public API,"
        " Typewriter or the former Config API has it. A relative path starts at the working"
        " directory of the process. Needs the extra `plan`.",
    )
    on_unplanned: str = setting(
        "log",
        parsers.choice("allow", "log", "raise", "quarantine"),
        "What a call does whose event is not in the tracking plan: `allow` it, `log` it once for"
        " each place in the code and store it, `raise` an error, which is then subject to"
        " `segment_on_invalid`, or `quarantine` it: store it as a dead letter, which can be"
        " replayed.",
    )
    on_violation: str = setting(
        "log",
        parsers.choice("allow", "log", "raise", "quarantine"),
        "What a call does that violates its rule in the tracking plan: the same.",
    )
    omit_unplanned_properties: bool = setting(
        False,
        parsers.boolean,
        "Leave properties and traits out that the tracking plan does not name, before a message is"
        " held to it. Objects for which it names none may have any.",
    )
    report_violations: bool = setting(
        False,
        parsers.boolean,
        "Send an event `Violation Generated` for each violation, as Segment's Protocols does.",
    )
    on_delivered: Any = setting(
        None,
        parsers.task_or_callable,
        "Celery task (or its name) or callable (or its dotted path) that is called for every"
        " delivered batch.",
    )
    on_failed: Any = setting(
        None,
        parsers.task_or_callable,
        "Celery task (or its name) or callable (or its dotted path) that is called for every batch"
        " that becomes a dead letter, or is damaged in Redis.",
    )
    gzip: bool = setting(True, parsers.boolean, "Compress request bodies with gzip.")
    timeout: float = setting(
        15.0,
        parsers.number(0.1, 300),
        "Timeout of a request in seconds, from connecting to the last byte of the response.",
    )
    proxies: dict[str, str] | None = setting(
        None,
        parsers.proxies,
        "Proxies by scheme, in the format of `requests`; SOCKS needs PySocks.",
        show="environment variable `SEGMENT_PROXIES`, as JSON; else the proxies of the environment",
        secret=True,
        from_environment=True,
    )
    ca_bundle: str | None = setting(
        None,
        parsers.ca_bundle,
        "File or directory of CA certificates. By default, those of certifi.",
    )
    max_retries: int = setting(
        10,
        parsers.whole(0),
        "Number of retries before a batch may become a dead letter. `segment_retry_for` must have"
        " passed as well.",
    )
    retry_for: float = setting(
        43_200.0,
        parsers.number(0),
        "Seconds of retrying before a batch may become a dead letter. `segment_max_retries` must be"
        " used up as well.",
    )
    max_inflight: int = setting(
        32,
        parsers.whole(1, 1_000),
        "Maximum number of requests under way at the same time. The actual limit adapts to the"
        " endpoint: it starts from 2, grows while responses are good, and is halved by 429, 5xx and"
        " timeouts.",
    )
    lease: float = setting(
        120.0,
        parsers.number(1, 86_400),
        "Seconds for which a worker holds a batch. When the worker dies, another one takes the"
        " batch over after that time. Must be longer than `segment_timeout`.",
    )
    max_dead_bytes: int = setting(
        100_000_000,
        parsers.whole(_LEAST_DEAD_BYTES),
        "Maximum size of the dead letters in bytes. When the next one does not fit, the source"
        " stops delivering until there is room.",
    )
    dead_retention: float | None = setting(
        None,
        parsers.number(60),
        "Seconds after which workers delete a dead letter. By default, dead letters are kept until"
        " they are replayed or purged.",
    )

    @property
    def shard_name(self) -> str:
        """The name by which its shard is stored: "shop/2"; of the first shard, that of the source.

        So a source that gets shards keeps what it holds.
        """
        return f"{self.name}/{self.shard}" if self.shard else self.name

    def batch_name(self, batch_id: str) -> str:
        """Return the name of one of its shard's batches, which no other shard's batch has."""
        return f"{self.shard}/{batch_id}" if self.shard else batch_id

    def split(self) -> list[Source]:
        """Return the source's shards, each with its part of the limits."""
        return [
            replace(
                self,
                shard=number,
                max_inflight=1 if self.ordered else self._part(self.max_inflight, number),
                max_dead_bytes=self._part(self.max_dead_bytes, number),
                max_buffer_bytes=self.max_buffer_bytes
                and self._part(self.max_buffer_bytes, number),
            )
            for number in range(self.shards)
        ]

    def _part(self, limit: int, number: int) -> int:
        return limit // self.shards + (number < limit % self.shards)

    def stored_as(self, shard_name: str) -> Source:
        """Return a source like this one that is stored by the name of a shard, or of a source."""
        found = _SHARD_NAME.fullmatch(shard_name)
        name, number = found.groups() if found else (shard_name, 0)
        return replace(self, name=name, shard=int(number))

    def check(self) -> None:
        """Raise ConfigurationError if two settings contradict each other."""
        if self.lease <= self.timeout:
            raise ConfigurationError(
                f"segment_lease ({self.lease:g} s) of source {self.name!r} must be longer than"
                f" segment_timeout ({self.timeout:g} s)",
                hint="raise segment_lease, so that a batch is not taken over from a live worker",
            )
        if self.oauth is not None and self.lease <= _OAUTH_REQUESTS * self.timeout:
            raise ConfigurationError(
                f"segment_lease ({self.lease:g} s) of source {self.name!r} must be longer than"
                f" {_OAUTH_REQUESTS} times segment_timeout ({self.timeout:g} s) with segment_oauth",
                hint="raise segment_lease: an attempt may make a request for a token, and both"
                " requests again where the token is refused",
            )
        self._check_parts()
        url = urlsplit(self.host)
        local = parsers.is_loopback(url.hostname)
        if url.scheme == "http" and not local and not self.allow_http:
            raise ConfigurationError(
                f"segment_host {self.host!r} of source {self.name!r} would send the write key"
                " unencrypted",
                hint="use https, or set segment_allow_http = True",
            )

    def _check_parts(self) -> None:
        """Raise ConfigurationError if a limit is too small to be divided among the shards."""
        least = {
            "max_inflight": 1 if not self.ordered else 0,
            "max_dead_bytes": _LEAST_DEAD_BYTES,
            "max_buffer_bytes": _LEAST_BUFFER_BYTES,
        }
        for name, part in least.items():
            limit = getattr(self, name)
            if limit is not None and limit < part * self.shards:
                raise ConfigurationError(
                    f"segment_{name} ({limit:,}) of source {self.name!r} is too small for its"
                    f" {self.shards} shards",
                    hint=f"set it to {part * self.shards:,} at least, or lower segment_shards",
                )
