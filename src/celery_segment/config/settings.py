"""Declare the settings: name, type, default, parser and one line of documentation each.

``Settings`` has the settings of the application, ``Source`` those that may differ between
sources. A field ``flush_at`` is the Celery setting ``segment_flush_at``
(``CELERY_SEGMENT_FLUSH_AT`` with Django's namespace ``CELERY``) and, if it is a field of
``Source``, the key ``"flush_at"`` of an entry of ``segment_sources``.

docs/reference/settings.md is generated from these declarations.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

from celery_segment.config import parsers
from celery_segment.config.declaration import setting
from celery_segment.errors import ConfigurationError

__all__ = ["DEFAULT_SOURCE", "Settings", "Source", "declared"]

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


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of the application, and its sources by name."""

    sources: dict[str, Source]
    #: Whether any setting of this library is set.
    is_configured: bool = True
    #: Names of settings that are ignored, such as SEGMENT_FLUSH_AT, with the right ones.
    misnamed: dict[str, str] = field(default_factory=dict)
    #: Whether the buffer is on the broker's server, and the same user's.
    shares_broker: bool = True
    #: Arguments of redis-py's connections that ``redis_url`` cannot contain.
    redis_options: dict[str, Any] = field(default_factory=dict, repr=False)
    redis_url: str = setting(
        "",
        parsers.redis_url,
        "URL of the Redis that holds the buffer.",
        show="environment variable `SEGMENT_REDIS_URL`; else the broker's URL, if it is a Redis",
        secret=True,
        from_environment=True,
    )
    namespace: str = setting(
        "",
        parsers.namespace,
        "Namespace of all keys in Redis, of letters, digits, dots, dashes and underscores, so that"
        " several applications, or environments, can share a Redis database.",
        show="`global_keyprefix` of `broker_transport_options`, if there is one; else none",
    )
    redis_timeout: float = setting(
        1.0, parsers.number(0.05, 60), "Timeout for Redis in seconds, connecting included."
    )
    redis_max_connections: int = setting(
        50,
        parsers.whole(1, 10_000),
        "Maximum number of connections of a process to the buffer's Redis. A call beyond it waits"
        " within `segment_redis_timeout`.",
    )
    spill_path: str | None = setting(
        None, parsers.file, "File on this host that stores messages while Redis is unreachable."
    )
    max_spill_bytes: int = setting(
        100_000_000, parsers.whole(100_000), "Maximum size of the spill file in bytes."
    )
    trusted_proxies: int = setting(
        0,
        parsers.whole(0, 10),
        "Number of your own proxies in front of the web processes that append to"
        " `X-Forwarded-For`, from which `context.ip` is read. With 0, it is the address of the"
        " connection.",
    )
    set_anonymous_id: bool = setting(
        False,
        parsers.boolean,
        "Set the cookie `ajs_anonymous_id`, valid for a year, for a visitor without an id, at the"
        " first call that needs one.",
    )
    batch_requests: bool = setting(
        False,
        parsers.boolean,
        "Store all calls of a web request in one round trip, once its response is ready.",
    )
    worker_share: float = setting(
        0.5,
        parsers.number(0.01, 1),
        "Maximum share of a worker's processes (or threads) that deliver at the same time, at least"
        " one; the others are left to the application's tasks. In a worker that consumes only"
        " `segment_queue` it is 1.",
    )
    queue: str | None = setting(
        None,
        parsers.text,
        "Queue of the workers' tasks `segment.drain` and `segment.deliver`. By default, as Celery"
        " routes them.",
    )
    max_requests_per_second: float = setting(
        1_000.0,
        parsers.number(0.1, 100_000),
        "Maximum number of requests per second of all workers together. Segment allows 1,000 for a"
        " workspace.",
    )
    capture_tests: bool = setting(
        True,
        parsers.boolean,
        "Under pytest and Django's test runner, validate calls and store nothing, unless a test"
        " asks for the buffer.",
    )
    signing_key: parsers.SigningKey | None = setting(
        None,
        parsers.signing_key,
        "Key with which callbacks and receipts are signed in the buffer: a random text of at least"
        " 32 characters, in all processes; workers run no others then.",
        show="environment variable `SEGMENT_SIGNING_KEY`",
        secret=True,
        from_environment=True,
    )
    allowed_callbacks: tuple[str, ...] = setting(
        (),
        parsers.task_names,
        "Names of tasks that unsigned callbacks may run. Needed without `segment_signing_key`,"
        " where the buffer's Redis is not the broker's.",
    )
    tick: bool = setting(
        True,
        parsers.boolean,
        "Let each worker check for due messages periodically, so that Celery beat is not needed.",
    )

    @property
    def is_unused(self) -> bool:
        """Whether the application neither sets up this library nor has a Redis for it."""
        return not self.is_configured and not self.redis_url

    @property
    def enabled(self) -> list[Source]:
        """The sources that are enabled. A source that is not may have no Redis."""
        return [source for source in self.sources.values() if source.enabled]

    def source(self, name: str) -> Source:
        """Return a source by its name.

        Raises:
            ConfigurationError: It is not configured; the hint lists those that are.
        """
        try:
            return self.sources[name]
        except (KeyError, TypeError):
            known = ", ".join(sorted(self.sources))
            raise ConfigurationError(
                f"source {name!r} is not configured",
                hint=f"add it to segment_sources (configured: {known})",
            ) from None


def declared(cls: type[Settings | Source]) -> dict[str, Field[Any]]:
    """Return the fields of a class that are settings, by name."""
    return {f.name: f for f in fields(cls) if "parse" in f.metadata}
