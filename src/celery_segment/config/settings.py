"""Declare the settings: name, type, default, parser and one line of documentation each.

``Settings`` has the settings of the application, ``Source`` those that may differ between
sources. A field ``flush_at`` is the Celery setting ``segment_flush_at``
(``CELERY_SEGMENT_FLUSH_AT`` with Django's namespace ``CELERY``) and, if it is a field of
``Source``, the key ``"flush_at"`` of an entry of ``segment_sources``.

docs/reference/settings.md is generated from these declarations.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from celery_segment.config import parsers
from celery_segment.config.declaration import setting
from celery_segment.config.source import Source
from celery_segment.errors import ConfigurationError

__all__ = ["Settings"]


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
        "URL of the Redis that holds the buffer, of its Sentinels, or of a cluster.",
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
    propagate_visitor: bool = setting(
        False,
        parsers.boolean,
        "Carry the visitor of a web request (ids, IP address, page) into the Celery tasks that it"
        " starts, and into those that they start, in a header of their messages of at most 4 KB. To"
        " be set in web processes and workers.",
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
    idempotency: str = setting(
        "attempt",
        parsers.choice("attempt", "task", "off"),
        "What gives a call within a Celery task the same messageId when it is made again, so that"
        " Segment counts it once: the `attempt`, for a task that the broker delivers again; the"
        " `task`, also for one that is retried; or nothing, `off`.",
    )
    signing_key: parsers.SigningKey | None = setting(
        None,
        parsers.signing_key,
        "Key with which callbacks and receipts are signed in the buffer, and visitors in the"
        " broker: a random text of at least 32 characters, in all processes; workers run, and take,"
        " no others then.",
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

    @cached_property
    def shards(self) -> dict[str, Source]:
        """The shards of all sources, by their names; most sources have one."""
        return {
            shard.shard_name: shard for source in self.sources.values() for shard in source.split()
        }

    def source(self, name: str) -> Source:
        """Return a source by its name.

        Raises:
            ConfigurationError: It is not configured; the hint lists those that are.
        """
        return self._of(self.sources, name)

    def shard(self, name: str) -> Source:
        """Return a shard by its name.

        Raises:
            ConfigurationError: It is not configured.
        """
        return self._of(self.shards, name)

    def _of(self, known_ones: dict[str, Source], name: str) -> Source:
        try:
            return known_ones[name]
        except (KeyError, TypeError):
            known = ", ".join(sorted(self.sources))
            raise ConfigurationError(
                f"source {name!r} is not configured",
                hint=f"add it to segment_sources (configured: {known})",
            ) from None
