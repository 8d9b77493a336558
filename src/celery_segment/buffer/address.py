"""The address of one Redis server: what redis-py's connections to it are made of."""

from __future__ import annotations

import inspect
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pkgutil import resolve_name
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from celery_segment.aio.waits import BLOCKING, Waits
from celery_segment.errors import ConfigurationError

__all__ = ["Address", "address_of", "load_client"]

#: Parameters without a meaning here: those of kombu's transport, which users copy with a
#: broker's URL, and those of redis-py for what this library does itself.
_IGNORED = frozenset(
    (
        *("sep", "ack_emulation", "unacked_key", "unacked_index_key", "unacked_mutex_key"),
        *("unacked_mutex_expire", "visibility_timeout", "unacked_restore_limit"),
        *("unacked_restore_interval", "unacked_restore_throttle", "fanout_prefix"),
        *("fanout_patterns", "global_keyprefix", "queue_order_strategy", "priority_steps"),
        *("polling_interval", "connect_timeout", "heartbeat", "login_method"),
        *("max_connections", "timeout", "socket_timeout", "socket_connect_timeout"),
        *("health_check_interval", "retry", "retry_on_timeout", "retry_on_error"),
        *("protocol", "decode_responses", "encoding", "encoding_errors", "legacy_responses"),
    )
)

#: Options of TCP: probes keep a balancer from forgetting an idle connection, and end one
#: whose other end is gone. (TCP_USER_TIMEOUT would not help: a call's timeout is shorter.)
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}


def load_client() -> None:
    """Import redis-py ahead of the first call: it takes 50 to 150 ms, and opens no connection."""
    import redis  # noqa: F401


@dataclass(frozen=True)
class Address:
    """One Redis server.

    Attributes:
        connection_class: The class of redis-py's connections to it, of its asyncio ones on a loop.
        arguments: Their arguments, the password among them.
    """

    connection_class: Any = field(repr=False, compare=False)
    arguments: Mapping[str, Any] = field(repr=False, compare=False)
    host: str
    port: int
    #: The number of the database.
    database: int
    #: How those wait who use the connections.
    waits: Waits = field(default=BLOCKING, repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" if self.port else self.host

    def at(self, host: str, port: int) -> Address:
        """Return the address of another server, to which one connects alike."""
        arguments = {**self.arguments, "host": host, "port": port}
        return replace(self, arguments=arguments, host=host, port=port)

    def connection(self, seconds: float) -> Any:
        """Return a connection of redis-py, or what stands for one, which is not connected yet.

        Args:
            seconds: How long to connect, and how long to wait for each answer.
        """
        timeouts = {"socket_timeout": seconds, "socket_connect_timeout": seconds}
        arguments = {**self.arguments, **timeouts}
        if self.waits is BLOCKING:
            return self.connection_class(**arguments)
        # Loaded by whoever calls on an event loop.
        from celery_segment.buffer.loop_connection import LoopConnection

        loop: Any = self.waits
        return LoopConnection(self.connection_class, arguments, seconds, loop)


def address_of(url: str, options: Mapping[str, Any], waits: Waits = BLOCKING) -> Address:
    """Return the address of the server at a URL.

    Args:
        url: ``redis://``, ``rediss://``, ``valkey://``, ``valkeys://`` or ``unix://``.
        options: Further arguments; those of the URL override them.
        waits: How those wait who use its connections.

    Raises:
        ConfigurationError: The URL is not understood, or has an unknown parameter.
    """
    # redis-py is loaded with the first pool, not with the library.
    from redis import ConnectionPool, RedisError
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    named = {name: value for name, value in options.items() if name not in _IGNORED}
    try:
        _check_database(url)
        pool = ConnectionPool.from_url(_without_ignored(url), **named)
        cls, kwargs = pool.connection_class, pool.connection_kwargs
        _adapt(kwargs)
        _refuse_unknown(cls, kwargs, {*named, *_names_in(url)})
        kwargs |= {"retry": Retry(NoBackoff(), 0), "protocol": 2, "health_check_interval": 0}
        _keep_driver(kwargs, cls(**kwargs))  # opens no connection, but looks at the values
    except (ValueError, TypeError, RedisError) as error:
        raise ConfigurationError(f"segment_redis_url is not understood: {error}") from None
    if "path" not in kwargs:
        kwargs |= {"socket_keepalive": True, "socket_keepalive_options": _keepalive()}
    path = kwargs.get("path")
    host, port = (path, 0) if path else (kwargs.get("host", "localhost"), kwargs.get("port", 6379))
    if waits is not BLOCKING:
        from celery_segment.buffer.loop_connection import on_loop

        cls, kwargs = on_loop(cls, kwargs)
    return Address(cls, kwargs, host, port, int(kwargs.get("db") or 0), waits)


def _keepalive() -> dict[int, int]:
    """Return the options of TCP that this system has."""
    options = {getattr(socket, name, None): value for name, value in _KEEPALIVE.items()}
    return {name: value for name, value in options.items() if name is not None}


def _check_database(url: str) -> None:
    """Raise ValueError where redis-py would take database 0 for one that it cannot read."""
    parts = urlsplit(url)
    database = parts.path.strip("/")
    if parts.scheme != "unix" and database and not database.isdecimal():
        raise ValueError("the database must be a number")


def _names_in(url: str) -> set[str]:
    return {name for name, _ in parse_qsl(url.partition("?")[2], keep_blank_values=True)}


def _without_ignored(url: str) -> str:
    if url.startswith("valkey"):
        url = f"redis{url.removeprefix('valkey')}"
    address, _, query = url.partition("?")
    kept = [(name, value) for name, value in parse_qsl(query) if name not in _IGNORED]
    return f"{address}?{urlencode(kept)}" if kept else address


def _adapt(kwargs: dict[str, Any]) -> None:
    """Give arguments the form that redis-py takes, where Celery users write another."""
    required = kwargs.get("ssl_cert_reqs")
    if isinstance(required, str):  # kombu accepts CERT_REQUIRED and required
        kwargs["ssl_cert_reqs"] = required.lower().removeprefix("cert_")
    if kwargs.get("credential_provider"):
        kwargs["credential_provider"] = _provider(kwargs["credential_provider"])
        # As in kombu: the provider replaces the URL's user and password.
        kwargs.pop("username", None)
        kwargs.pop("password", None)


def _keep_driver(kwargs: dict[str, Any], connection: Any) -> None:
    """Give all connections the names that redis-py has found for one, and tells Redis.

    It reads its version from a file, which takes longer than to connect.
    """
    if hasattr(connection, "driver_info"):  # since redis-py 7.2
        kwargs["driver_info"] = connection.driver_info
        kwargs.pop("lib_name", None)
        kwargs.pop("lib_version", None)


def _provider(given: Any) -> Any:
    """Return an object that provides credentials, given it or the dotted path of its class."""
    from redis.credentials import CredentialProvider

    if isinstance(given, str):
        try:
            given = resolve_name(given)()
        except (ImportError, AttributeError, ValueError, TypeError) as error:
            raise ValueError(f"credential_provider cannot be imported ({error})") from None
        except Exception as error:  # noqa: BLE001 - its own, whose text may hold a secret
            raise ValueError(f"credential_provider raises {type(error).__name__}") from None
    if not isinstance(given, CredentialProvider):
        raise ValueError("credential_provider must be a subclass of redis.CredentialProvider")
    return given


def _refuse_unknown(cls: type, kwargs: Mapping[str, Any], given: set[str]) -> None:
    known = {
        name
        for base in cls.__mro__[:-1]
        for name in inspect.signature(base.__init__).parameters  # type: ignore[misc]
    }
    for name in sorted(given & kwargs.keys() - known):
        hint = " without TLS: use rediss://" if name.startswith("ssl_") else ""
        raise ValueError(f"it has no parameter {name!r}{hint}")
