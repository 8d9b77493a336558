"""Send HTTP requests: one requests session per process, and a total deadline per request.

Only this module and ``deadline`` use HTTP.
"""

from __future__ import annotations

import base64
import os
from functools import lru_cache
from http.cookiejar import DefaultCookiePolicy

import requests
from requests.utils import get_environ_proxies
from urllib3.exceptions import HTTPError

from celery_segment.config import Source
from celery_segment.delivery.deadline import DeadlineAdapter
from celery_segment.delivery.outcome import Answer, Failure
from celery_segment.delivery.request import USER_AGENT, Request

__all__ = ["post", "reach"]

#: Maximum number of bytes read from a response, enough for the text of an error.
ANSWER_BYTES = 16_384
#: Maximum number of connections kept open to a host, for Celery's thread pools.
POOL = 64

#: The environment variables that determine the proxies.
_PROXY_VARIABLES = tuple(
    variant
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "request_method")
    for variant in (name, name.upper())
)

_session: tuple[int, requests.Session] | None = None


def post(request: Request, source: Source) -> Answer | Failure:
    """Send a request and return the response or the failure.

    The whole exchange takes at most ``source.timeout`` seconds, not counting the time of the
    name resolution. Redirects are not followed and cookies are not kept. The environment's
    proxies do not override configured ones, and netrc files are ignored.
    """
    return _exchange("POST", request.url, request.headers, request.data, source)


def reach(source: Source) -> Answer | Failure:
    """Request the batch endpoint as ``post`` does, but without credentials or messages.

    A response with any status means that the endpoint can be reached.
    """
    return _exchange("GET", f"{source.host}/v1/batch", {"User-Agent": USER_AGENT}, None, source)


def _exchange(
    method: str, url: str, headers: dict[str, str], data: bytes | None, source: Source
) -> Answer | Failure:
    proxies = source.proxies
    if proxies is None:
        proxies = _environ_proxies(url, tuple(map(os.environ.get, _PROXY_VARIABLES)))
    verify = source.ca_bundle or os.environ.get("REQUESTS_CA_BUNDLE") or True
    try:
        request = _blank(method, url).copy()
        request.headers.update(headers)
        request.prepare_body(data, None)
        with _of_this_process().send(
            request,
            timeout=source.timeout,
            proxies=proxies,
            verify=verify,
            allow_redirects=False,
            stream=True,
        ) as response:
            return Answer(response.status_code, response.headers, _text(response, source))
    except (requests.RequestException, HTTPError, OSError, ValueError) as error:
        return _failure(error, source)


@lru_cache(maxsize=64)
def _blank(method: str, url: str) -> requests.PreparedRequest:
    """Prepare a request without headers and body; each request is a copy of it."""
    return requests.Request(method, url).prepare()


@lru_cache(maxsize=64)
def _environ_proxies(url: str, _: tuple[str | None, ...]) -> dict[str, str]:
    """Return the environment's proxies for a URL.

    It is cached, since it takes as long as compressing a batch. The second argument is the
    values of ``_PROXY_VARIABLES``, so that a change of one is noticed.
    """
    return get_environ_proxies(url)


def _of_this_process() -> requests.Session:
    """Return the session of this process.

    A forked process needs its own: two processes that share a socket would read each other's
    responses.
    """
    global _session  # noqa: PLW0603 - one tuple, replaced atomically
    if _session is None or _session[0] != os.getpid():
        session = requests.Session()
        session.trust_env = False
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        session.mount("https://", DeadlineAdapter(pool_maxsize=POOL))
        session.mount("http://", DeadlineAdapter(pool_maxsize=POOL))
        _session = (os.getpid(), session)
    return _session[1]


def _text(response: requests.Response, source: Source) -> str:
    """Return the start of the response's body; "" if it echoes the credentials.

    Errors while reading the body are ignored, since the status alone decides.
    """
    try:
        text: str = response.raw.read(ANSWER_BYTES, decode_content=True).decode("utf-8", "replace")
    except (HTTPError, OSError, ValueError):
        return ""
    key = source.write_key.reveal() if source.write_key else ""
    token = base64.b64encode(f"{key}:".encode()).decode()
    return "" if key in text or token in text else text


def _failure(error: Exception, source: Source) -> Failure:
    """Return the failure with its innermost error; the texts of the wrappers repeat each other."""
    inner: BaseException = error
    while (deeper := inner.__cause__ or inner.__context__) is not None:
        inner = deeper
    reason = getattr(inner, "reason", None)
    inner = reason if isinstance(reason, BaseException) else inner
    if isinstance(inner, TimeoutError) or isinstance(error, requests.Timeout):
        return Failure(f"no answer from {source.host} within {source.timeout:g} s", "timeout")
    cause = f"no answer from {source.host}: {type(inner).__name__}: {str(inner)[:160]}"
    return Failure(cause, "tls" if isinstance(error, requests.exceptions.SSLError) else "network")
