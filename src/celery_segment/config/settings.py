"""Every setting, once: its name, type, default and one line of documentation.

``Settings`` holds what belongs to the application, ``Source`` what may differ
from one source to the next. A field ``flush_at`` is the Celery setting
``segment_flush_at`` (``CELERY_SEGMENT_FLUSH_AT`` under Django's namespace) and,
for a field of ``Source``, the key ``"flush_at"`` of an entry of
``segment_sources``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

from celery_segment.config import parsers
from celery_segment.errors import ConfigurationError

__all__ = ["DEFAULT_SOURCE", "Settings", "Source", "declared", "setting"]

DEFAULT_SOURCE = "default"
#: Segment's limits for one request to its batch endpoint (HTTP Tracking API, "Batch").
MAX_BATCH_BYTES = 500_000
MAX_BATCH_MESSAGES = 2_500
#: The smallest batch that still holds one message of the greatest size.
MIN_BATCH_BYTES = 33_000

_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|::1")


def setting(
    default: Any,
    parse: Callable[[Any], Any],
    doc: str,
    *,
    show: str | None = None,
    secret: bool = False,
) -> Any:
    """Declare one setting as a dataclass field. A secret's value is never shown."""
    shown = repr(default) if show is None else show
    metadata = {"parse": parse, "doc": doc, "show": shown, "secret": secret}
    return field(default=default, metadata=metadata, repr=not secret)


@dataclass(frozen=True, kw_only=True)
class Source:
    """One Segment source: its name and all that may differ between sources."""

    name: str
    write_key: parsers.WriteKey | None = setting(
        None,
        parsers.write_key,
        "The source's write key; needed by workers only.",
        show="environment variable `SEGMENT_WRITE_KEY`",
        secret=True,
    )
    host: str = setting(
        "https://api.segment.io",
        parsers.host,
        "Address of Segment's API, or of a compatible endpoint.",
    )
    allow_http: bool = setting(
        False, parsers.boolean, "Allow a plain http host that is not this machine."
    )
    enabled: bool = setting(
        True, parsers.boolean, "When False, calls validate and return, and nothing is stored."
    )
    flush_at: int = setting(
        20, parsers.whole(1), "Number of waiting messages that triggers a flush at once."
    )
    flush_interval: float = setting(
        10.0,
        parsers.number(0.1, 86_400),
        "Seconds after which a waiting message is taken by a worker, at the latest.",
    )
    max_batch_bytes: int = setting(
        MAX_BATCH_BYTES,
        parsers.whole(MIN_BATCH_BYTES, MAX_BATCH_BYTES),
        "Greatest size of a request body in bytes, envelope included, before compression.",
    )
    max_batch_messages: int = setting(
        MAX_BATCH_MESSAGES,
        parsers.whole(1, MAX_BATCH_MESSAGES),
        "Greatest number of messages in a request.",
    )
    max_buffer_bytes: int | None = setting(
        None,
        parsers.whole(100_000),
        "Bytes of waiting messages above which `segment_on_full` applies; else Redis' own limit.",
    )
    on_full: str = setting(
        "raise",
        parsers.choice("raise", "drop"),
        "When there is no room: `raise` BufferFull, or `drop` the message and count it.",
    )
    on_unavailable: str = setting(
        "raise",
        parsers.choice("raise", "drop", "spill"),
        "When Redis is out of reach: `raise` BufferUnavailable, `drop` the message and count it,"
        " or `spill` it to `segment_spill_path`, from where it returns by itself.",
    )
    context: dict[str, Any] | None = setting(
        None,
        parsers.json_object,
        "Context of every message; what a call gives comes on top.",
        secret=True,
    )
    integrations: dict[str, Any] | None = setting(
        None, parsers.json_object, "Destinations of every message; what a call gives comes on top."
    )
    before_send: Callable[..., Any] | None = setting(
        None,
        parsers.callable_or_path,
        "Callable, or its dotted path, that gets every message at its call, as a dict, and returns"
        " it, changed or not, or None to drop it.",
    )
    on_delivered: Any = setting(
        None,
        parsers.task_or_callable,
        "Celery task (or its name) or callable (or its dotted path) that is told of every batch"
        " that was delivered.",
    )
    on_failed: Any = setting(
        None,
        parsers.task_or_callable,
        "The same, told of every batch that was given up and is a dead letter.",
    )
    gzip: bool = setting(True, parsers.boolean, "Compress request bodies.")
    timeout: float = setting(
        15.0, parsers.number(0.1, 300), "Seconds for one request, from connect to last byte."
    )
    proxies: dict[str, str] | None = setting(
        None,
        parsers.proxies,
        "Proxies by scheme, as requests takes them; else the environment's.",
        secret=True,
    )
    ca_bundle: str | None = setting(
        None, parsers.ca_bundle, "File or folder of CA certificates; else certifi's."
    )
    max_retries: int = setting(
        10, parsers.whole(0), "Retries of a batch before it may be given up."
    )
    retry_for: float = setting(
        43_200.0,
        parsers.number(0),
        "Seconds of retrying before a batch may be given up; both limits must be exceeded.",
    )
    max_inflight: int = setting(
        32,
        parsers.whole(1, 1_000),
        "Batches claimed at once; the rest of a backlog waits in Redis.",
    )
    lease: float = setting(
        120.0,
        parsers.number(1, 86_400),
        "Seconds after which a dead worker's batch is taken over; above the timeout.",
    )
    max_dead_bytes: int = setting(
        100_000_000,
        parsers.whole(1_000_000),
        "Bytes of messages that the dead letters may hold; beyond, the source closes.",
    )

    def check(self) -> None:
        """Raise ConfigurationError where two settings contradict each other."""
        if self.lease <= self.timeout:
            raise ConfigurationError(
                f"segment_lease ({self.lease:g} s) of source {self.name!r} must be longer than"
                f" segment_timeout ({self.timeout:g} s), or a live worker's batch is taken over"
            )
        url = urlsplit(self.host)
        local = _LOOPBACK.fullmatch(url.hostname or "")
        if url.scheme == "http" and not local and not self.allow_http:
            raise ConfigurationError(
                f"segment_host {self.host!r} of source {self.name!r} would send the write key"
                " unencrypted: use https, or set segment_allow_http = True"
            )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The application's settings, and its sources by name."""

    sources: dict[str, Source]
    redis_url: str = setting(
        "",
        parsers.redis_url,
        "Redis that holds the buffer.",
        show="the broker's, when that is Redis",
        secret=True,
    )
    redis_timeout: float = setting(
        1.0, parsers.number(0.05, 60), "Seconds that a call waits for Redis, at the most."
    )
    spill_path: str | None = setting(
        None, parsers.file, "File of this host that takes messages while Redis is out of reach."
    )
    max_spill_bytes: int = setting(
        100_000_000, parsers.whole(100_000), "How large that file may grow, in bytes."
    )
    trusted_proxies: int = setting(
        0,
        parsers.whole(0, 10),
        "Proxies in front of the web processes, each of which appends to `X-Forwarded-For` the"
        " address that it saw: where `context.ip` is read. With 0, it is the connection's address.",
    )
    set_anonymous_id: bool = setting(
        False,
        parsers.boolean,
        "Give a visitor of the web processes who has no id the cookie `ajs_anonymous_id`, for a"
        " year, at the first call that needs it.",
    )
    batch_requests: bool = setting(
        False,
        parsers.boolean,
        "Store what is called during a web request in one round trip, once its response is there.",
    )
    tick: bool = setting(
        True,
        parsers.boolean,
        "Let each worker look for due messages by itself, without Celery beat.",
    )

    @property
    def enabled(self) -> list[Source]:
        """The sources that are to be drained: one that is not enabled may have no Redis."""
        return [source for source in self.sources.values() if source.enabled]

    def source(self, name: str) -> Source:
        """Return the source of that name.

        Raises:
            ConfigurationError: There is none; the text names those there are.
        """
        try:
            return self.sources[name]
        except (KeyError, TypeError):
            known = ", ".join(sorted(self.sources))
            raise ConfigurationError(
                f"source {name!r} is not configured: add it to segment_sources"
                f" (configured: {known})"
            ) from None


def declared(cls: type[Settings | Source]) -> dict[str, Field[Any]]:
    """Return the fields of ``cls`` that are settings, by name."""
    return {f.name: f for f in fields(cls) if "parse" in f.metadata}
