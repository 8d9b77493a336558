"""Which source the arguments of a ``Client`` mean, and which of them do nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from celery_segment.config import DEFAULT_SOURCE, Settings, Source, WriteKey, declared
from celery_segment.errors import ConfigurationError

__all__ = ["WORKERS_SETTINGS", "choose", "without_effect"]

logger = logging.getLogger("celery_segment")

#: Options of Segment's client that only a worker can honour: the setting of its that does.
WORKERS_SETTINGS = {
    "host": "host",
    "gzip": "gzip",
    "max_retries": "max_retries",
    "timeout": "timeout",
    "proxies": "proxies",
    "upload_size": "max_batch_messages",
    "upload_interval": "flush_interval",
    "max_total_backoff_duration": "retry_for",
}


def choose(settings: Settings, name: str | None, write_key: str | None) -> Source:
    """Return the source that is named, or that has the write key; else the default one.

    Raises:
        ConfigurationError: There is no such source; or this process' configuration
            contradicts the write key, or leaves open which source it belongs to.
    """
    key = WriteKey((write_key or "").strip())
    if name is not None:
        source = settings.source(name)
        if write_key and source.write_key not in (None, key):
            raise ConfigurationError(
                f"the write_key given to Client is not that of source {name!r} in this"
                " process' configuration: leave one of the two out"
            )
        return source
    if not write_key:
        return settings.source(DEFAULT_SOURCE)
    return _with_key(settings, key)


def _with_key(settings: Settings, key: WriteKey) -> Source:
    keys = {source.write_key for source in settings.sources.values()}
    for source in settings.sources.values():
        if source.write_key == key:
            return source
    if keys != {None} or len(settings.sources) > 1:
        raise ConfigurationError(
            "the write_key given to Client is that of no source in this process'"
            " configuration: name the source instead, as in Client(source=...), or give"
            f" segment_sources the key (configured: {', '.join(sorted(settings.sources))})"
        )
    # No key here, as it should be, and one source: there is nothing else it could mean.
    logger.warning(
        "the write_key given to Client is not used: the workers have that of source %r;"
        " Client(source=%r) says so",
        DEFAULT_SOURCE,
        DEFAULT_SOURCE,
    )
    return settings.source(DEFAULT_SOURCE)


def without_effect(given: Mapping[str, Any], source: Source) -> Iterator[str]:
    """Yield those of the options given that differ from what the workers do, with the mend."""
    settings = declared(Source)
    for option, value in given.items():
        if option.startswith("oauth_"):
            yield f"{option} (OAuth is not supported: the workers use the write key)"
        elif option in WORKERS_SETTINGS:
            setting = WORKERS_SETTINGS[option]
            try:
                same = settings[setting].metadata["parse"](value) == getattr(source, setting)
            except (ValueError, OverflowError):
                same = False
            if not same:
                yield f"{option} (segment_{setting} is its setting)"
