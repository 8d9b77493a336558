"""Mask passwords of the settings where Celery shows an application's configuration.

``celery inspect conf``, Flower's page of a worker and ``celery report`` all show what
``celery.app.utils.filter_hidden_settings`` returns. It masks keys by the setting's name, and
the password of ``broker_url``, but knows nothing of URLs in other settings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from celery_segment.config.declaration import declared
from celery_segment.config.settings import Settings
from celery_segment.config.source import Source

__all__ = ["mask_settings"]

MASK = "********"
_SECRET = {
    name for cls in (Settings, Source) for name, f in declared(cls).items() if f.metadata["secret"]
}
_PREFIX = "segment_"


def mask_settings() -> None:
    """Have Celery mask the secrets of this library's settings, as it masks its own."""
    from celery.app import utils

    # Celery has no hook for it: neither a subclass of str nor one of dict is left as it is
    # on the way through its JSON.
    by_celery = utils.filter_hidden_settings
    if getattr(by_celery, "masks_segment", False):
        return

    def filter_hidden_settings(conf: Mapping[Any, Any]) -> Any:
        return by_celery({name: _masked(name, value) for name, value in conf.items()})

    filter_hidden_settings.masks_segment = True  # type: ignore[attr-defined]
    utils.filter_hidden_settings = filter_hidden_settings


def _masked(name: Any, value: Any) -> Any:
    """Return a setting as it may be shown."""
    # A prefix of Celery's own, such as CELERY_, may come first.
    own = str(name).lower().rpartition(_PREFIX)
    if not own[1]:
        return value
    if own[2] == "sources" and isinstance(value, Mapping):
        return {source: _of_source(entry) for source, entry in value.items()}
    return _hidden(value) if own[2] in _SECRET else value


def _of_source(entry: Any) -> Any:
    if not isinstance(entry, Mapping):
        return entry
    return {k: _hidden(v) if k in _SECRET else v for k, v in entry.items()}


def _hidden(value: Any) -> Any:
    """Return a secret's mask; of a URL, what is no secret."""
    if isinstance(value, Mapping):
        return {key: _hidden(each) for key, each in value.items()}
    return value if value is None else _urls(value) or MASK


def _urls(value: Any) -> str:
    """Return a URL, or those of several Sentinels, without what is secret; "" where it is none."""
    if not isinstance(value, str) or "://" not in value:
        return ""
    urls = [_url(each) for each in re.split(r";\s*(?=sentinel://)", value)]
    return ";".join(urls) if all(urls) else ""


def _url(value: str) -> str:
    """Return a URL without its user, password and query; "" where it is none."""
    try:
        parts = urlsplit(value)
    except ValueError:
        return ""
    login, _, host = parts.netloc.rpartition("@")
    netloc = f"{MASK}@{host}" if login else host
    return urlunsplit((parts.scheme, netloc, parts.path, "", ""))
