"""Parse the values of settings.

Each parser returns the value to use, or raises ValueError with a text such as "must be a
number", which follows the setting's name in the error that the user sees.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pkgutil import resolve_name
from typing import Any, NoReturn, cast
from urllib.parse import SplitResult, urlsplit, urlunsplit

__all__ = [
    "PrivateKey",
    "SigningKey",
    "WriteKey",
    "boolean",
    "ca_bundle",
    "callable_or_path",
    "choice",
    "existing_file",
    "file",
    "host",
    "is_loopback",
    "json_object",
    "namespace",
    "number",
    "proxies",
    "redis_url",
    "signing_key",
    "task_names",
    "task_or_callable",
    "text",
    "whole",
    "write_key",
]


#: The shortest signing key, in characters.
MIN_KEY = 32
#: The longest write key. Servers refuse a header of some KB; and with OAuth the key is in the body,
#: which has room for 41 KB beside the largest batch.
MAX_WRITE_KEY = 1_000

_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|::1")


class _Key:
    """A key, which only ``reveal()`` returns.

    Its ``repr`` hides the key, and it cannot be pickled or encoded, so that the key does not
    get into a log, a task message or Redis by accident.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the key as text."""
        return self._value

    def __repr__(self) -> str:
        return f"{type(self).__name__}(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key must not leave its process, so it cannot be pickled")


class WriteKey(_Key):
    """A source's write key."""

    __slots__ = ()


class SigningKey(_Key):
    """The key with which callbacks are signed, or several: the first of them signs."""

    __slots__ = ()


class PrivateKey(_Key):
    """The private key of an OAuth application, as PEM text, or the path of its file."""

    __slots__ = ()


def is_loopback(name: str | None) -> bool:
    """Return whether the host of a URL is this machine."""
    return _LOOPBACK.fullmatch(name or "") is not None


def _within(value: Any, least: float, most: float | None) -> None:
    if not value >= least or (most is not None and value > most):
        bounds = f"at least {least:,}" if most is None else f"from {least:,} to {most:,}"
        raise ValueError(f"must be {bounds}")


def whole(least: int, most: int | None = None) -> Callable[[Any], int]:
    """Return a parser of whole numbers from ``least`` to ``most``."""

    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError("must be a whole number")
        _within(value, least, most)
        return value

    return parse


def number(least: float, most: float | None = None) -> Callable[[Any], float]:
    """Return a parser of numbers from ``least`` to ``most``."""

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
    if len(value) > MAX_WRITE_KEY:
        raise ValueError(
            f"must have at most {MAX_WRITE_KEY:,} characters: copy it from the source's settings in"
            " Segment"
        )
    return WriteKey(value)


def signing_key(value: Any) -> SigningKey:
    """Parse the key, or keys, with which callbacks are signed."""
    if isinstance(value, SigningKey):
        return value
    keys = [each.strip() for each in value.split(",")] if isinstance(value, str) else [""]
    if min(map(len, keys)) < MIN_KEY:
        raise ValueError(
            f"must be a random text of at least {MIN_KEY} characters, such as"
            " secrets.token_hex(32) returns; or several, with commas between them"
        )
    return SigningKey(",".join(keys))


def task_names(value: Any) -> tuple[str, ...]:
    """Parse a list of names of Celery tasks."""
    is_list = isinstance(value, list | tuple | set | frozenset)
    if not is_list or not all(isinstance(each, str) and each.strip() for each in value):
        raise ValueError('must be a list of names of tasks such as ["shop.tasks.booked"]')
    return tuple(value)


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
    """Parse the base URL of an endpoint.

    The scheme is https by default. A path ``/v1`` or ``/v1/batch`` at the end, which Segment's
    documentation includes in its URLs, is removed.
    """
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a URL such as https://api.segment.io")
    text = value.strip()
    url = _split(text if "://" in text else f"https://{text}")
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ValueError("must be an https URL such as https://events.eu1.segmentapis.com")
    if "@" in url.netloc or url.query or url.fragment:
        raise ValueError("must be a URL without credentials, query or fragment")
    path = url.path.rstrip("/")
    path = path.removesuffix("/batch").removesuffix("/v1")
    return urlunsplit((url.scheme, url.netloc, path, "", ""))


def text(value: Any) -> str:
    """Parse a text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a non-empty string")
    return value


def namespace(value: Any) -> str:
    """Parse a part of a key in Redis; empty for none."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_.-]{0,64}", value):
        raise ValueError("must be up to 64 letters, digits, dots, dashes and underscores")
    return value


def choice(*choices: str) -> Callable[[Any], str]:
    """Return a parser that accepts only these texts."""

    def parse(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(map(repr, choices))}")
        return str(value)

    return parse


def file(value: Any) -> str:
    """Parse the path of a file, which need not exist yet, in an existing directory."""
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(path, str) or not path or not os.path.isdir(os.path.dirname(path) or "."):  # noqa: PTH112, PTH120
        raise ValueError("must be the path of a file in an existing directory")
    return path


def existing_file(value: Any) -> str:
    """Parse the path of a file that exists."""
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(path, str) or not os.path.isfile(path):  # noqa: PTH113
        raise ValueError("must be the path of an existing file")
    return path


#: What the URL of the buffer's servers may start with.
_REDIS = (
    *("redis://", "rediss://", "valkey://", "valkeys://", "unix://"),
    *("sentinel://", "redis+cluster://", "rediss+cluster://"),
)
_SENTINEL = "sentinel://"


def redis_url(value: Any) -> str:
    """Parse the URL of the buffer's Redis, of its Sentinels, or of a cluster's servers."""
    if not isinstance(value, str) or not value.startswith(_REDIS):
        raise ValueError(f"must be a URL that starts with one of {', '.join(_REDIS)}")
    if value.startswith(_SENTINEL):
        for each in value.split(";"):
            if not each.strip().startswith(_SENTINEL):
                raise ValueError(f"must name each Sentinel as {_SENTINEL}host:port, with ; between")
            _split(each)
    else:
        # The ports of a cluster's other servers are looked at by whoever connects.
        _split(value.partition(",")[0])
    return value


def proxies(value: Any) -> dict[str, str]:
    """Parse a mapping of schemes to the URLs of proxies."""
    if not isinstance(value, Mapping) or not all(
        isinstance(k, str) and isinstance(v, str) for k, v in value.items()
    ):
        raise ValueError('must be a mapping such as {"https": "http://proxy:3128"}')
    return dict(value)


def json_object(value: Any) -> dict[str, Any]:
    """Parse a mapping whose keys are strings."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError("must be a mapping whose keys are strings")
    return dict(value)


def callable_or_path(value: Any) -> Callable[..., Any]:
    """Parse a callable or its dotted path, and return the callable."""
    if isinstance(value, str):
        try:
            value = resolve_name(value)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(f"must be a dotted path that can be imported ({error})") from None
    if not callable(value):
        raise ValueError("must be a callable, or its dotted path")
    return cast("Callable[..., Any]", value)


def task_or_callable(value: Any) -> Any:
    """Parse a Celery task or its name, or a callable or its dotted path."""
    # A text is resolved later, in the worker, which knows the names of the tasks.
    if callable(value) or (isinstance(value, str) and value.strip()):
        return value
    raise ValueError("must be a Celery task, a task's name, a callable, or its dotted path")


def ca_bundle(value: Any) -> str:
    """Parse the path of a file or directory of CA certificates."""
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(path, str) or not os.path.exists(path):  # noqa: PTH110 - a file or a directory
        raise ValueError("must be the path of an existing file or directory of CA certificates")
    return path
