"""What the value of a setting may be.

Each function returns the value to keep, or raises ValueError saying what it must be.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pkgutil import resolve_name
from typing import Any, NoReturn, cast
from urllib.parse import SplitResult, urlsplit, urlunsplit

__all__ = [
    "WriteKey",
    "boolean",
    "ca_bundle",
    "callable_or_path",
    "choice",
    "file",
    "host",
    "json_object",
    "number",
    "proxies",
    "redis_url",
    "task_or_callable",
    "whole",
    "write_key",
]


class WriteKey:
    """A source's write key, which shows itself to nobody but the HTTP request.

    It has no useful ``repr``, and refuses to be pickled or encoded, so that it
    cannot slip into a log line, a task message or Redis.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the key itself, for the Authorization header."""
        return self._value

    def __repr__(self) -> str:
        return "WriteKey(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WriteKey) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a write key does not leave the process it was configured in")


def _within(value: Any, least: float, most: float | None) -> None:
    if not value >= least or (most is not None and value > most):
        bounds = f"at least {least:,}" if most is None else f"from {least:,} to {most:,}"
        raise ValueError(f"must be {bounds}")


def whole(least: int, most: int | None = None) -> Callable[[Any], int]:
    """Return a parser of whole numbers within bounds."""

    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError("must be a whole number")
        _within(value, least, most)
        return value

    return parse


def number(least: float, most: float | None = None) -> Callable[[Any], float]:
    """Return a parser of numbers within bounds."""

    def parse(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError("must be a number")
        _within(value, least, most)
        return float(value)

    return parse


def boolean(value: Any) -> bool:
    """Parse True or False."""
    if not isinstance(value, bool):
        raise ValueError("must be True or False")
    return value


def write_key(value: Any) -> WriteKey:
    """Parse a source's write key."""
    if isinstance(value, WriteKey):
        return value
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a non-empty string")
    value = value.strip()
    if not value.isascii() or not value.isprintable() or ":" in value:
        raise ValueError("must be printable ASCII without a colon")
    return WriteKey(value)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        valid = parts.port != 0 and not re.search(r"\s", url)
    except ValueError:
        valid = False
    if not valid:
        raise ValueError("must be a valid URL")
    return parts


def host(value: Any) -> str:
    """Parse the address of an endpoint; what Segment's own pages put behind it is cut off."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a URL such as https://api.segment.io")
    text = value.strip()
    url = _split(text if "://" in text else f"https://{text}")
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ValueError("must be an https URL such as https://events.eu1.segmentapis.com")
    if "@" in url.netloc or url.query or url.fragment:
        raise ValueError("must be an address alone, without credentials, query or fragment")
    path = url.path.rstrip("/")
    path = path.removesuffix("/batch").removesuffix("/v1")
    return urlunsplit((url.scheme, url.netloc, path, "", ""))


def choice(*choices: str) -> Callable[[Any], str]:
    """Return a parser of one of these texts."""

    def parse(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(map(repr, choices))}")
        return str(value)

    return parse


def file(value: Any) -> str:
    """Parse the path of a file, which need not be there yet."""
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(path, str) or not path or not os.path.isdir(os.path.dirname(path) or "."):  # noqa: PTH112, PTH120
        raise ValueError("must be the path of a file in an existing folder")
    return path


def redis_url(value: Any) -> str:
    """Parse the URL of a Redis, as redis-py takes it."""
    schemes = ("redis://", "rediss://", "unix://")
    if not isinstance(value, str) or not value.startswith(schemes):
        raise ValueError(f"must be a URL that starts with one of {', '.join(schemes)}")
    _split(value)
    return value


def proxies(value: Any) -> dict[str, str]:
    """Parse proxies by scheme."""
    if not isinstance(value, Mapping) or not all(
        isinstance(k, str) and isinstance(v, str) for k, v in value.items()
    ):
        raise ValueError('must be a mapping such as {"https": "http://proxy:3128"}')
    return dict(value)


def json_object(value: Any) -> dict[str, Any]:
    """Parse a mapping."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError("must be a mapping with text as keys")
    return dict(value)


def callable_or_path(value: Any) -> Callable[..., Any]:
    """Return a callable, given itself or by its dotted path."""
    if isinstance(value, str):
        try:
            value = resolve_name(value)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(f"must be a path that can be imported ({error})") from None
    if not callable(value):
        raise ValueError("must be a callable, or its dotted path")
    return cast("Callable[..., Any]", value)


def task_or_callable(value: Any) -> Any:
    """Parse a Celery task or its name, a callable or its dotted path."""
    # A text may be a task's name: what it means is seen where the tasks are known.
    if callable(value) or (isinstance(value, str) and value.strip()):
        return value
    raise ValueError("must be a Celery task, a task's name, a callable, or its dotted path")


def ca_bundle(value: Any) -> str:
    """Parse the path of CA certificates."""
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(path, str) or not os.path.exists(path):  # noqa: PTH110 - a file or a folder
        raise ValueError("must be the path of an existing file or folder of CA certificates")
    return path
