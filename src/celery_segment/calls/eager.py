"""Whether tasks run at once: what ``app.conf.task_always_eager`` says, at a tenth of its price.

Celery asks each of its maps for each of a setting's names by way of several methods,
which costs a call as much as its validation. Here the maps are asked directly; they are
live, so a change at run time, as tests make it, counts from the next call on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["Eager"]

#: Celery's name for it, and the one from before Celery 4.
_NAMES = ("task_always_eager", "CELERY_ALWAYS_EAGER")


class Eager:
    """Asks one application.

    Args:
        app: The Celery application.
    """

    __slots__ = ("_app", "_asked", "_maps")

    def __init__(self, app: Any) -> None:
        self._app = app
        self._maps: Any = None
        self._asked: list[tuple[Mapping[str, Any], str]] = []

    def __bool__(self) -> bool:
        if self._app.conf.maps is not self._maps:
            self._find_maps()
        for settings, name in self._asked:
            value = settings.get(name)
            if value is not None:
                return bool(value)
        return False

    def _find_maps(self) -> None:
        # The first look at any setting loads the configuration, and changes the maps.
        self._app.conf.get(_NAMES[0])
        conf = self._app.conf
        prefix = conf.prefix or ""
        prefixed = (prefix + _NAMES[0], prefix.upper() + _NAMES[0].upper())
        names = [*prefixed, *_NAMES] if prefix else _NAMES
        self._maps = conf.maps
        self._asked = [(settings, name) for settings in conf.maps for name in names]
