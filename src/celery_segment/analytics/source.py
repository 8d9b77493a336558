"""Find the source that a ``Client`` is for, and the options that have no effect."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from celery_segment.config import (
    DEFAULT_SOURCE,
    OAuth,
    PrivateKey,
    Settings,
    Source,
    WriteKey,
    declared,
    read_key,
)
from celery_segment.errors import ConfigurationError

__all__ = ["OAUTH_FIELDS", "WORKERS_SETTINGS", "check_oauth", "choose", "without_effect"]

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

#: The fields of ``segment_oauth`` that options of Segment's client stand for.
OAUTH_FIELDS = {
    "oauth_client_id": "client_id",
    "oauth_client_key": "private_key",
    "oauth_key_id": "key_id",
    "oauth_auth_server": "auth_server",
    "oauth_scope": "scope",
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


def check_oauth(given: Mapping[str, Any], source: Source) -> None:
    """Refuse credentials of OAuth that contradict those of the source in this process.

    Raises:
        ConfigurationError: An option is not what ``segment_oauth`` says.
    """
    oauth = source.oauth
    if oauth is None:
        return
    for option, name in OAUTH_FIELDS.items():
        if option in given and not _agrees(given[option], name, oauth, source.host):
            raise ConfigurationError(
                f"the {option} given to Client is not the {name} in segment_oauth of source"
                f" {source.name!r} in this process",
                hint="leave out the oauth_ options: the workers use segment_oauth",
            )


def _agrees(value: Any, name: str, oauth: OAuth, host: str) -> bool:
    if name == "private_key":
        return _is_same_key(value, oauth.private_key)
    if name == "auth_server":
        return str(value).rstrip("/").removesuffix("/token") == oauth.server_of(host)
    return bool(value == getattr(oauth, name))


def _is_same_key(value: Any, key: PrivateKey) -> bool:
    given = value if isinstance(value, bytes) else str(value).encode()
    try:
        return given.split() == read_key(key).split()
    except (OSError, ValueError):
        return True  # a process that only makes calls need not be able to read it


def without_effect(given: Mapping[str, Any], source: Source) -> Iterator[str]:
    """Yield the given options that differ from the settings, each with what to use instead."""
    settings = declared(Source)
    for option, value in given.items():
        if option in OAUTH_FIELDS:
            if source.oauth is None:
                yield f"{option} (set segment_oauth in the workers instead)"
        elif option in WORKERS_SETTINGS:
            setting = WORKERS_SETTINGS[option]
            try:
                same = settings[setting].metadata["parse"](value) == getattr(source, setting)
            except (ValueError, OverflowError):
                same = False
            if not same:
                yield f"{option} (set segment_{setting} instead)"
