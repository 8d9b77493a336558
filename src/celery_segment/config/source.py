"""Declare the settings that may differ between sources: see ``settings``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from celery_segment.config import parsers
from celery_segment.config.declaration import setting
from celery_segment.errors import ConfigurationError

__all__ = ["DEFAULT_SOURCE", "MAX_BATCH_BYTES", "MAX_BATCH_MESSAGES", "MIN_BATCH_BYTES", "Source"]

DEFAULT_SOURCE = "default"
#: Segment's limits for one request to its batch endpoint (HTTP Tracking API, "Batch").
MAX_BATCH_BYTES = 500_000
MAX_BATCH_MESSAGES = 2_500
#: Size of a batch, in bytes, that has room for one message of the maximum size.
MIN_BATCH_BYTES = 33_000

_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|::1")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A Segment source: its name, and the settings that may differ between sources.

    Attributes:
        name: Its name in ``segment_sources``.
        namespace: The namespace of its keys in Redis, ``segment_namespace``.
    """

    name: str
    namespace: str = ""
    write_key: parsers.WriteKey | None = setting(
        None,
        parsers.write_key,
        "Write key of the source. Only workers need it.",
        show="environment variable `SEGMENT_WRITE_KEY`",
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
        "Maximum size of a request body in bytes, envelope included, before compression.",
    )
    max_batch_messages: int = setting(
        MAX_BATCH_MESSAGES,
        parsers.whole(1, MAX_BATCH_MESSAGES),
        "Maximum number of messages in a request.",
    )
    max_buffer_bytes: int | None = setting(
        None,
        parsers.whole(100_000),
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
        "Number of replicas of Redis that have a message before its call returns. Where they do not"
        " confirm it in time, `segment_on_unavailable` applies. By default, only the primary has it"
        " for sure, and a failover loses what no replica had received.",
    )
    on_invalid: str = setting(
        "raise",
        parsers.choice("raise", "log"),
        "What a call does when it is not valid: `raise` the error, or `log` it once for each place"
        " in the code, without the data, and count it.",
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
        parsers.whole(1_000_000),
        "Maximum size of the dead letters in bytes. When the next one does not fit, the source"
        " stops delivering until there is room.",
    )
    dead_retention: float | None = setting(
        None,
        parsers.number(60),
        "Seconds after which workers delete a dead letter. By default, dead letters are kept until"
        " they are replayed or purged.",
    )

    def check(self) -> None:
        """Raise ConfigurationError if two settings contradict each other."""
        if self.lease <= self.timeout:
            raise ConfigurationError(
                f"segment_lease ({self.lease:g} s) of source {self.name!r} must be longer than"
                f" segment_timeout ({self.timeout:g} s)",
                hint="raise segment_lease, so that a batch is not taken over from a live worker",
            )
        url = urlsplit(self.host)
        local = _LOOPBACK.fullmatch(url.hostname or "")
        if url.scheme == "http" and not local and not self.allow_http:
            raise ConfigurationError(
                f"segment_host {self.host!r} of source {self.name!r} would send the write key"
                " unencrypted",
                hint="use https, or set segment_allow_http = True",
            )
