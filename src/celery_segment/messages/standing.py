"""What a value stands for: lazy objects, proxies, enums, the classes of a frozen clock. No I/O.

Other libraries' classes are recognized by their names and methods, so that a call imports
nothing that the application has not imported.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import lru_cache
from typing import Any

__all__ = ["class_name", "comes_from", "has_index", "real_class", "resolved", "resolver_of"]

#: Number of proxies within each other. With more, a proxy stands for itself.
_MAX_PROXIES = 20


def class_name(value: Any) -> str:
    """Return the name of a value's class, whatever its metaclass makes of it."""
    name: str = _NAME.__get__(type(value))
    return name


_NAME = type.__dict__["__name__"]


def comes_from(kind: type, package: str, *names: str) -> bool:
    """Return whether a class is, or inherits from, one of a package with one of these names."""
    return any(
        base.__name__ in names and base.__module__.partition(".")[0] == package
        for base in kind.__mro__
    )


def has_index(kind: type) -> bool:
    """Return whether values of a class are whole numbers: numpy's, gmpy2's and the like."""
    # A MagicMock has the index 1.
    return hasattr(kind, "__index__") and not comes_from(kind, "unittest", "NonCallableMock")


def real_class(kind: type) -> type:
    """Return the datetime module's own class, even if it is imported while time is frozen.

    freezegun replaces ``datetime`` and ``date`` by subclasses, in the datetime module and in
    each module that has imported them. Whatever must remain the real class belongs into a
    container, into which freezegun does not look.
    """
    return next(base for base in kind.__mro__ if base.__module__ == "datetime")


def resolved(value: Any) -> Any:
    """Return what a lazy object, a proxy or an enum's member stands for; else the value itself.

    Raises:
        Exception: What the lazy object raises, such as werkzeug's RuntimeError outside of a
            request.
    """
    for _ in range(_MAX_PROXIES):
        kind: Any = type(value)
        resolve = resolver_of(kind)
        if resolve is None:
            return value
        value = resolve(value)
    raise ValueError("a proxy stands for itself")


@lru_cache(maxsize=256)
def resolver_of(kind: type) -> Callable[[Any], Any] | None:
    """Return the function that resolves values of a class; None if they stand for themselves."""
    if issubclass(kind, Enum):
        return _member_value
    if hasattr(kind, "_get_current_object"):  # werkzeug's LocalProxy, Celery's Proxy
        return _current_object
    for (package, name), resolve in _RESOLVERS.items():
        if comes_from(kind, package, name):
            return resolve
    return None


def _member_value(value: Any) -> Any:
    return value.value


def _current_object(value: Any) -> Any:
    return value._get_current_object()  # noqa: SLF001 - werkzeug documents it


def _wrapped(value: Any) -> Any:
    # Django's way to pickle what a lazy object stands for.
    _, (wrapped,) = value.__reduce__()
    return wrapped


def _promised(value: Any) -> Any:
    # The result of django.utils.functional.lazy(). Its name is what Python makes of ``__cast``.
    return value._proxy____cast()  # noqa: SLF001 - str() would turn a number into text


#: By the package and the name of a class, or of a class that it inherits from.
_RESOLVERS: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("django", "LazyObject"): _wrapped,
    ("django", "Promise"): _promised,
    ("flask_babel", "LazyString"): str,
    ("babel", "LazyProxy"): lambda value: value.value,
    ("collections", "UserString"): str,
}
