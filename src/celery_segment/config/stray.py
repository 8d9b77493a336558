"""Find settings that were meant for this library, and are not read as they are spelt."""

from __future__ import annotations

from typing import Any

from celery_segment.config.declaration import declared
from celery_segment.config.settings import Settings
from celery_segment.config.source import Source

__all__ = ["stray_settings"]

_UPPER = "SEGMENT_"


def stray_settings(conf: Any) -> dict[str, str]:
    """Return the right names of settings by how they are spelt, such as ``SEGMENT_WRITE_KEY``.

    With Django's namespace, a name without it may belong to another library. So those whose
    right name is given as well are left out.

    Args:
        conf: ``app.conf``.
    """
    conf.finalize()  # Celery loads the configuration and its prefix lazily
    prefix = conf.prefix or ""
    names = {str(name) for mapping in conf.maps for name in mapping}
    known = {*declared(Settings), *declared(Source), "sources"}
    stray = {}
    for name in sorted(names):
        own = name.removeprefix(_UPPER).lower()
        if not name.startswith(_UPPER) or own not in known:
            continue
        if conf.get(name.lower()) in (None, ""):
            stray[name] = f"{prefix}{name}" if prefix else name.lower()
    return stray
