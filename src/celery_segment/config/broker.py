"""Find the Redis of the buffer in Celery's settings, as Celery itself would connect to it.

The rules are those of kombu's Redis transport. They differ from redis-py's: TLS without
options does not verify the certificate, any option of TLS turns it on, and a socket's URL has
its database in the query.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urlsplit

from celery_segment.errors import ConfigurationError

__all__ = ["broker_redis", "completed", "is_same_server", "no_redis"]

_SOCKET, _SENTINEL = "redis+socket", "sentinel"
_SCHEMES = ("redis", "rediss", _SOCKET)

#: Names of this machine.
_LOOPBACK = ("127.0.0.1", "::1")

Options = dict[str, Any]


def broker_redis(conf: Any) -> tuple[str, Options]:
    """Return the URL of the first broker that is a Redis, in the form of redis-py.

    Returns:
        The URL, and options of the connection that a URL cannot contain; ("", {}) if no
        broker is a Redis.
    """
    for text in _brokers(conf):
        scheme = text.partition("://")[0].lower()
        if scheme == _SENTINEL:
            texts = map(str.strip, _brokers(conf))
            url = ";".join(each for each in texts if each.startswith(f"{_SENTINEL}:"))
            url, options = _of_sentinels(url, conf)
            return url, {**options, **_tls("redis", {}, _setting(conf, "broker_use_ssl"))}
        if scheme in _SCHEMES:
            try:
                return _of_url(scheme, text, conf)
            except ValueError:  # Celery cannot connect to it either
                continue
    return "", {}


def completed(url: str, conf: Any) -> tuple[str, Options]:
    """Return a URL of the buffer's Redis, and options of the connection that it cannot contain.

    Args:
        url: The URL, in the form of redis-py; those of Sentinels with semicolons between them.
        conf: Celery's settings, which may have the rest of what is to be known of Sentinels.
    """
    return _of_sentinels(url, conf) if url.startswith(f"{_SENTINEL}:") else (url, {})


def _of_sentinels(url: str, conf: Any) -> tuple[str, Options]:
    """Complete the URLs of Sentinels, with semicolons between them, by Celery's settings.

    Returns:
        The URLs with the name of what they watch, if there is one; ``sentinel_kwargs``.
    """
    options = _setting(conf, "broker_transport_options") or {}
    name = options.get("master_name")
    if name and "master_name=" not in url:
        url += f"{'&' if '?' in url.rpartition(';')[2] else '?'}{urlencode({'master_name': name})}"
    found = options.get("sentinel_kwargs")
    return url, {"sentinel_kwargs": dict(found)} if found else {}


def is_same_server(one: str, other: str) -> bool:
    """Return whether two URLs of redis-py name the same server, and the same user of it."""
    return bool(one) and bool(other) and _server(one) == _server(other)


def _server(url: str) -> tuple[Any, ...]:
    if url.startswith(f"{_SENTINEL}://"):
        name = parse_qs(url.partition("?")[2].replace(";", "&")).get("master_name")
        return _SENTINEL, name, *sorted(_server(f"redis{each[8:]}") for each in url.split(";"))
    parts = urlsplit(url.partition(",")[0])
    query = dict(parse_qsl(parts.query))
    user = query.get("username") or parts.username or "default"
    if parts.scheme == "unix":
        return "unix", parts.path, 0, user
    host = parts.hostname or "localhost"
    return "tcp", "localhost" if host in _LOOPBACK else host, parts.port or 6379, user


def _brokers(conf: Any) -> Iterator[str]:
    """Yield the URLs of the brokers: a list, or a text with semicolons between them."""
    given = _setting(conf, "broker_write_url") or _setting(conf, "broker_url") or ""
    for each in given if isinstance(given, list | tuple) else [given]:
        yield from str(each).split(";")


def _of_url(scheme: str, text: str, conf: Any) -> tuple[str, Options]:
    parts = urlsplit(f"http{text[text.index('://') :]}")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if scheme == _SOCKET:
        host = parts.netloc.rpartition("@")
        database = query.pop("virtual_host", "" if "db" in query else "0").strip("/")
        query = {"db": database or query.get("db", "0"), **query}
        path = f"/{host[2]}{parts.path}" if host[2] else parts.path
        return f"unix://{host[0]}{host[1]}{path}?{urlencode(query)}", {}
    options = _tls(scheme, query, _setting(conf, "broker_use_ssl"))
    netloc, path = _with_defaults(parts.netloc, parts.port, parts.path, conf)
    scheme = "rediss" if options or scheme == "rediss" or _has_tls(query) else "redis"
    return f"{scheme}://{netloc}{path}{'?' if query else ''}{urlencode(query)}", options


def _with_defaults(netloc: str, port: int | None, path: str, conf: Any) -> tuple[str, str]:
    """Return a URL's host and path, with Celery's settings for what is missing in them."""
    login, at, host = netloc.rpartition("@")
    user, _, password = login.partition(":")
    user = user or quote(str(_setting(conf, "broker_user") or ""), safe="")
    password = password or quote(str(_setting(conf, "broker_password") or ""), safe="")
    if user or password:
        login, at = f"{user}:{password}" if password else user, "@"
    if port is None and _setting(conf, "broker_port"):
        host = f"{host or '127.0.0.1'}:{_setting(conf, 'broker_port')}"
    path = path if path.strip("/") else f"/{str(_setting(conf, 'broker_vhost') or '').strip('/')}"
    if not path.strip("/").isdecimal() and path.strip("/"):
        raise ValueError("the database must be a number")
    return f"{login}{at}{host or '127.0.0.1'}", path if path != "/" else ""


def _tls(scheme: str, query: dict[str, str], use_ssl: Any) -> Options:
    """Return the options of TLS; those of the URL replace all of broker_use_ssl."""
    if _has_tls(query):
        return {}
    if isinstance(use_ssl, Mapping) and use_ssl:
        return dict(use_ssl)
    # True has no options: kombu ignores it, and connects to a redis:// without TLS.
    return {"ssl_cert_reqs": "none"} if scheme == "rediss" and not use_ssl else {}


def _has_tls(query: Mapping[str, str]) -> bool:
    return any(name.startswith("ssl_") for name in query)


def _setting(conf: Any, name: str) -> Any:
    value = conf.get(name)
    return getattr(conf, name, None) if value is None else value


def no_redis(app: Any) -> ConfigurationError:
    """Return the error of an application that names no Redis for the buffer."""
    if app.main == "default" and not app.set_as_current:  # the one that Celery falls back to
        return ConfigurationError(
            "no Celery application is current here, and Celery's default one has no Redis",
            hint="import the module of your application before the call; in another thread,"
            " call its set_default() as well",
        )
    return ConfigurationError(
        f"segment_redis_url is needed: the broker of {app.main or 'this'!r} is not a Redis that"
        " could hold the buffer",
        hint="set it, such as to redis://localhost:6379/0; if that is not your Celery"
        " application, it is not the current one in this thread: call its set_default()",
    )
