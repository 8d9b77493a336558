"""Send HTTP requests, over connections of this process, with a total deadline per request.

Only this module, ``deadline`` and ``socks_proxy`` use HTTP.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import time
from contextlib import closing
from functools import lru_cache
from typing import Any, NamedTuple

import requests
from requests.utils import get_environ_proxies
from urllib3.exceptions import HTTPError, NewConnectionError, ProxyError, SSLError
from urllib3.exceptions import TimeoutError as HTTPTimeoutError

from celery_segment.config import Source
from celery_segment.delivery.answer import Answer, Failure
from celery_segment.delivery.deadline import DeadlineAdapter, ProxyRefusedError
from celery_segment.delivery.outcome import is_retryable
from celery_segment.delivery.request import BATCH, USER_AGENT, Request
from celery_segment.frames import hidden_locals
from celery_segment.text import http_phrase, one_line

__all__ = ["post", "reach"]

#: Maximum number of bytes read from a response, enough for the text of an error.
ANSWER_BYTES = 16_384
#: Maximum number of characters kept of an error's text.
ERROR_TEXT = 160
#: Maximum number of connections kept open to a host, for Celery's thread pools.
POOL = 64

#: The environment variables that determine the proxies.
_PROXY_VARIABLES = tuple(
    variant
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "request_method")
    for variant in (name, name.upper())
)

#: What http.client says where a proxy refuses a CONNECT.
_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})")

_routes: tuple[int, _Routes] | None = None


@hidden_locals()
def post(request: Request, source: Source) -> Answer | Failure:
    """Send a request by the way of a source, and return the response or the failure.

    The whole exchange takes at most ``source.timeout`` seconds, not counting the time of the
    name resolution. Redirects are not followed and cookies are not kept. The environment's
    proxies do not override configured ones, and netrc files are ignored.
    """
    return _exchange("POST", request, source)


@hidden_locals()
def reach(source: Source) -> Answer | Failure:
    """Request the batch endpoint as ``post`` does, but without credentials or messages.

    A response with any status means that the endpoint can be reached.
    """
    request = Request(source.host, BATCH, {"User-Agent": USER_AGENT}, None)
    return _exchange("GET", request, source)


def _exchange(method: str, request: Request, source: Source) -> Answer | Failure:
    url = request.url
    proxies = source.proxies
    if proxies is None:
        proxies = _environ_proxies(url, tuple(map(os.environ.get, _PROXY_VARIABLES)))
    verify = source.ca_bundle or os.environ.get("REQUESTS_CA_BUNDLE") or True
    try:
        route = _of_this_process().route(url, proxies, verify)
    except (requests.RequestException, HTTPError, OSError, ValueError) as error:
        return _no_route(error, request)
    deadline = time.monotonic() + source.timeout
    try:
        response = route.pool.urlopen(
            method,
            route.target,
            body=request.data,
            headers=request.headers,
            timeout=source.timeout,
            retries=False,
            redirect=False,
            assert_same_host=False,
            preload_content=False,
            decode_content=False,
        )
        with closing(response):
            return Answer(response.status, response.headers, _text(response, request))
    except (requests.RequestException, HTTPError, OSError, ValueError) as error:
        return _failure(error, request, source.timeout, route.pool.proxy, deadline)


class _Route(NamedTuple):
    """How requests reach an endpoint: directly or through a proxy, with which certificates."""

    pool: Any
    target: str


class _Routes:
    """The connections of a process.

    requests chooses the proxy and the certificates, once for an endpoint; its part of each
    request is left out, since it takes as long as all others.
    """

    def __init__(self) -> None:
        self._adapter = DeadlineAdapter(pool_connections=POOL, pool_maxsize=POOL)
        self._routes: dict[Any, _Route] = {}

    def route(self, url: str, proxies: dict[str, str], verify: str | bool) -> _Route:
        """Return the route to a URL."""
        key = (url, tuple(proxies.items()), verify)
        if key not in self._routes:
            request = requests.Request("POST", url).prepare()
            choose = self._adapter.get_connection_with_tls_context
            pool = choose(request, verify, proxies=proxies, cert=None)
            self._routes[key] = _Route(pool, self._adapter.request_url(request, proxies))
        return self._routes[key]


@lru_cache(maxsize=64)
def _environ_proxies(url: str, _: tuple[str | None, ...]) -> dict[str, str]:
    """Return the environment's proxies for a URL.

    It is cached, since it takes as long as compressing a batch. The second argument is the
    values of ``_PROXY_VARIABLES``, so that a change of one is noticed.
    """
    return get_environ_proxies(url)


def _of_this_process() -> _Routes:
    """Return the connections of this process.

    A forked process needs its own: two processes that share a socket would read each other's
    responses.
    """
    global _routes  # noqa: PLW0603 - one tuple, replaced atomically
    if _routes is None or _routes[0] != os.getpid():
        _routes = (os.getpid(), _Routes())
    return _routes[1]


def _text(response: Any, request: Request) -> str:
    """Return the start of the response's body; "" if it echoes the credentials.

    Errors while reading the body are ignored, since the status alone decides.
    """
    try:
        text: str = response.read(ANSWER_BYTES, decode_content=True).decode("utf-8", "replace")
    except (HTTPError, OSError, ValueError):
        return ""
    return "" if _has_credentials(text, request) else text


def _has_credentials(text: str, request: Request) -> bool:
    """Return whether a text quotes what authorizes a request."""
    return any(secret in text for secret in request.secrets)


def _said(error: BaseException, request: Request) -> str:
    """Return an error's text, which may quote the endpoint or a proxy, shortened."""
    text = one_line(str(error))
    return "it quotes the credentials" if _has_credentials(text, request) else text[:ERROR_TEXT]


def _no_route(error: Exception, request: Request) -> Failure:
    """Return the failure where no request can be made: the proxy's URL is not usable."""
    text = "" if "@" in str(error) else f": {_said(error, request)}"  # it may quote a password
    cause = f"no way to {request.server}: {type(error).__name__}{text}"
    if "SOCKS" in text:
        cause += " Install them by `pip install 'requests[socks]'`"
    return Failure(cause, "configuration")


def _failure(
    error: Exception, request: Request, timeout: float, proxy: Any, deadline: float
) -> Failure:
    """Return the failure with its innermost error; the texts of the wrappers repeat each other."""
    inner: BaseException = error
    while (deeper := inner.__cause__ or inner.__context__) is not None:
        inner = deeper
    reason = getattr(inner, "reason", None)
    inner = reason if isinstance(reason, BaseException) else inner
    # urllib3 makes a refused connection a kind of timeout.
    timed_out = isinstance(error, HTTPTimeoutError) and not isinstance(error, NewConnectionError)
    if timed_out or isinstance(inner, TimeoutError):
        return Failure(f"no answer from {request.server} within {timeout:g} s", "timeout")
    if refused := _refused_by_proxy(error, inner, proxy, deadline):
        cause = f"the proxy refuses the connection to {request.server}: {refused}"
        return Failure(cause, "configuration")
    if isinstance(inner, FileNotFoundError):
        cause = f"the CA certificates for {request.server} are missing: check REQUESTS_CA_BUNDLE"
        return Failure(cause, "configuration")
    cause = f"no answer from {request.server}: {type(inner).__name__}: {_said(inner, request)}"
    is_tls = any(isinstance(each, SSLError | ssl.SSLError) for each in (error, inner))
    return Failure(cause, "tls" if is_tls else "network")


def _refused_by_proxy(
    error: Exception, inner: BaseException, proxy: Any, deadline: float
) -> str | None:
    """Return why a proxy will refuse the next request as well; None if it may not.

    Args:
        error: What the request raised.
        inner: Its innermost error.
        proxy: The proxy's URL, unless there is none, or one for SOCKS.
        deadline: When the request has to have ended.
    """
    if isinstance(error, ProxyRefusedError):
        return one_line(str(error))[:ERROR_TEXT]
    tunnel = _TUNNEL.match(str(inner))
    if tunnel is not None and not is_retryable(int(tunnel[1])):
        return f"{tunnel[1]} {http_phrase(int(tunnel[1]))}".rstrip()
    if isinstance(error, ProxyError) and "WRONG_VERSION_NUMBER" in str(inner):
        return "it does not speak TLS, write its URL as http://"
    if proxy is None or proxy.scheme != "http" or not isinstance(inner, ConnectionError):
        return None
    # A server of TLS closes the connection of a client that speaks none, as a broken one does.
    if _speaks_tls(proxy.host, proxy.port or 80, deadline - time.monotonic()):
        return "it speaks TLS, write its URL as https://"
    return None


def _speaks_tls(host: str, port: int, seconds: float) -> bool:
    """Return whether a server speaks TLS, whatever its certificate is."""
    try:
        with socket.create_connection((host, port), max(seconds, 0.001)) as sock:
            ssl.create_default_context().wrap_socket(sock, server_hostname=host).close()
    except ssl.SSLCertVerificationError:
        return True
    except OSError:
        return False
    return True
