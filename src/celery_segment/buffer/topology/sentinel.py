"""One primary, of which Sentinels know the address."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from celery_segment.buffer.address import Address, address_of
from celery_segment.buffer.topology.asking import ask
from celery_segment.buffer.topology.routing import Limits, Range, Router
from celery_segment.errors import BufferUnavailable, ConfigurationError
from celery_segment.text import one_line

__all__ = ["SCHEMES", "connect"]

SCHEMES = ("sentinel",)
PORT = 26379
#: The last slot; the primary has all.
LAST = 16_383


def connect(url: str, options: Mapping[str, Any], limits: Limits) -> Router:
    """Return the primary behind ``sentinel://h1:26379;sentinel://h2:26379/0?master_name=…``.

    User, password, database and options of TLS are those of the primary.

    Args:
        url: Each Sentinel's, as Celery's users write them.
        options: Further arguments of the connections; ``sentinel_kwargs``, those of the
            connections to the Sentinels.
        limits: The limits of the connections.

    Raises:
        ConfigurationError: The URL is not understood, or there is no ``master_name``.
    """
    named = dict(options)
    sentinel_kwargs = dict(named.pop("sentinel_kwargs", None) or {})
    parts = [urlsplit(each.strip()) for each in url.split(";") if each.strip()]
    query = {name: value for part in parts for name, value in parse_qsl(part.query)}
    name = query.pop("master_name", "")
    if not name:
        raise ConfigurationError(
            "segment_redis_url names Sentinels without the name of what they watch",
            hint="add ?master_name=mymaster to it, or master_name to broker_transport_options",
        )
    login = next((found for part in parts if (found := part.netloc.rpartition("@")[0])), "")
    database = next((part.path for part in parts if part.path.strip("/")), "")
    address = f"{login}@localhost" if login else "localhost"
    primary = address_of(
        f"{_scheme({*query, *named})}://{address}{database}?{urlencode(query)}",
        named,
        limits.waits,
    )
    like = _sentinel(sentinel_kwargs, limits)
    sentinels = [like.at(part.hostname or "localhost", part.port or PORT) for part in parts]
    where = f"{name} ({', '.join(map(str, sentinels))})"
    return Router("Sentinel", where, _Sentinels(name, sentinels), _only, primary, limits)


def _scheme(names: set[str]) -> str:
    return "rediss" if any(name.startswith("ssl_") for name in names) else "redis"


def _sentinel(kwargs: Mapping[str, Any], limits: Limits) -> Address:
    named = {key: value for key, value in kwargs.items() if key != "ssl"}
    scheme = "rediss" if kwargs.get("ssl") else _scheme({*named})
    return address_of(f"{scheme}://localhost", named, limits.waits)


def _only(key: str) -> int:  # noqa: ARG001 - the primary has all keys
    return 0


class _Sentinels:
    """Asks Sentinels where the primary is, the one that answered last first."""

    def __init__(self, name: str, sentinels: Sequence[Address]) -> None:
        self._name, self._sentinels = name, tuple(sentinels)

    def __call__(self, seconds: float, first: str = "") -> list[Range]:  # noqa: ARG002 - a server
        until, problem = time.monotonic() + seconds, ""
        for sentinel in self._sentinels:
            try:
                found = ask(
                    sentinel, seconds / 2, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name
                )
            except OSError as error:
                problem = f"{sentinel}: {one_line(str(error))[:160]}"
            else:
                if found:
                    host, port = found
                    return [Range(0, LAST, host.decode(), int(port))]
                problem = f"{sentinel} watches nothing of that name"
            # The next look begins with another one.
            self._sentinels = (*(each for each in self._sentinels if each != sentinel), sentinel)
            if time.monotonic() > until:
                break
        raise BufferUnavailable(
            f"no Sentinel says where {self._name!r} is ({problem})",
            hint="check the Sentinels, master_name and sentinel_kwargs",
        )
