"""Whether an application runs its tasks at once, in the calling process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

__all__ = ["Eager"]

#: Celery's name for it, and the one from before Celery 4.
_NAMES = ("task_always_eager", "CELERY_ALWAYS_EAGER")


class _Settings(Protocol):
    """Settings by their names."""

    def get(self, name: str, /) -> Any:
        """Return a setting's value; None where it is not set."""


class Eager:
    """The setting ``app.conf.task_always_eager`` as a truth value, read quickly.

    Celery looks a setting up under each of its names, in each of its configuration maps,
    through several methods and, for a module or Django's settings, by ``getattr``. That takes
    longer than everything else that a call does. This class reads the dicts behind the maps
    directly. They are live, so a change at run time, such as in a test, takes effect at the
    next call.

    Args:
        app: The Celery application.
    """

    __slots__ = ("_app", "_asked", "_attributes", "_conf")

    def __init__(self, app: Any) -> None:
        self._app = app
        self._attributes: Mapping[str, Any] = app.__dict__
        self._conf: Any = None
        # Functions that return a value or None, and what to call them with.
        self._asked: list[tuple[Callable[[Any], Any], Any]] = []

    def __bool__(self) -> bool:
        # This is app.conf, without the call of its property.
        if self._attributes.get("_conf") is not self._conf or self._conf is None:
            self._find_maps()
        for get, wanted in self._asked:
            value = get(wanted)
            if value is not None:
                return bool(value)
        return False

    def _find_maps(self) -> None:
        # Reading any setting for the first time loads the configuration, which replaces the maps.
        self._app.conf.get(_NAMES[0])
        conf = self._app.conf
        prefix = conf.prefix or ""
        prefixed = (prefix + _NAMES[0], prefix.upper() + _NAMES[0].upper())
        names = [*prefixed, *_NAMES] if prefix else _NAMES
        self._conf = conf
        *given, defaults = conf.maps
        asked = [settings for each in given for settings in _dicts_of(each)]
        # Celery's own defaults do not change.
        asked += [defaults] if any(map(defaults.get, names)) else []
        self._asked = []
        for settings in asked:
            if isinstance(settings, _Django):
                self._asked.append((settings.first_of, names))
            else:
                self._asked += [(settings.get, name) for name in names]


def _dicts_of(settings: Any) -> Iterator[_Settings | _Django]:
    """Yield what to ask in place of one of Celery's maps, in order."""
    obj = getattr(settings, "obj", None)
    if isinstance(settings, dict) or obj is None:
        yield settings
    elif "_wrapped" in getattr(obj, "__dict__", {}):
        yield _Django(obj.__dict__)
    elif hasattr(type(obj), "__getattr__") or not hasattr(obj, "__dict__"):
        yield settings
    else:
        classes = obj.__mro__ if isinstance(obj, type) else (obj, *type(obj).__mro__)
        yield from map(vars, classes)


class _Django:
    """Django's settings, without the lazy object in front of them.

    Args:
        lazy: The attributes of that object: ``_wrapped`` is replaced while settings are
            overridden in a test, by a holder of the changes in front of the former.
    """

    __slots__ = ("_lazy",)

    def __init__(self, lazy: Mapping[str, Any]) -> None:
        self._lazy = lazy

    def first_of(self, names: Sequence[str]) -> Any:
        """Return the value of the first setting of these that is set; None where none is."""
        holder = self._lazy["_wrapped"]
        while (own := getattr(holder, "__dict__", None)) is not None:
            for name in names:
                if name in own:
                    return own[name]
            if "_deleted" in own:
                names = [name for name in names if name not in own["_deleted"]]
            holder = own.get("default_settings")
        return None
