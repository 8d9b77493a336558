"""Find the source that a ``Client`` is for, and the options that have no effect."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from celery_segment.config import DEFAULT_SOURCE, Settings, Source, WriteKey, declared
from celery_segment.errors import ConfigurationError

__all__ = ["WORKERS_SETTINGS", "choose", "without_effect"]

logger = logging.getLogger("celery_segment")

#: Options of Segment's client that only a worker can apply, with the setting to use instead.
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
    """Return the source with the name or the write key; without either, the default source.

    Args:
        settings: The configuration of this process.
        name: The name of the source.
        write_key: The write key given to the client.

    Raises:
        ConfigurationError: The source is not configured; or the configuration contradicts
            the write key, or does not determine which source it belongs to.
    """
    key = WriteKey((write_key or "").strip())
    if name is not None:
        source = settings.source(name)
        if write_key and source.write_key not in (None, key):
            raise ConfigurationError(
                f"the write_key given to Client is not that of source {name!r} in this process",
                hint="leave out either the write_key or the source",
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
            "the write_key given to Client is not configured for any source in this process",
            hint="name the source instead, as in Client(source=...), or add the key to"
            f" segment_sources (configured: {', '.join(sorted(settings.sources))})",
        )
    # No key is configured here, as recommended, and there is only one source to choose.
    logger.warning(
        "the write_key given to Client is not used, since the workers have that of source %r:"
        " use Client(source=%r) instead",
        DEFAULT_SOURCE,
        DEFAULT_SOURCE,
    )
    return settings.source(DEFAULT_SOURCE)


def without_effect(given: Mapping[str, Any], source: Source) -> Iterator[str]:
    """Yield the given options that differ from the settings, each with what to use instead."""
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
                yield f"{option} (set segment_{setting} instead)"
