"""The only HTTP: one requests session per process, a total deadline per request."""

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

#: How much of an answer is read: enough for an error's text.
ANSWER_BYTES = 16_384
#: Connections kept open to one host, for the thread pools of Celery.
POOL = 64

#: What decides on the environment's proxies.
_PROXY_VARIABLES = tuple(
    variant
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "request_method")
    for variant in (name, name.upper())
)

_session: tuple[int, requests.Session] | None = None


def post(request: Request, source: Source) -> Answer | Failure:
    """Send a request and return the answer, or why there is none.

    The whole exchange takes at most ``source.timeout`` seconds (but for the
    resolver's own time). No redirect is followed; no cookie is kept; neither
    the environment's proxies nor a netrc file override what is configured.
    """
    return _exchange("POST", request.url, request.headers, request.data, source)


def reach(source: Source) -> Answer | Failure:
    """Ask for the batch endpoint as ``post`` does, but without credentials or messages.

    Any answer, whatever its status, means that a ``post`` would arrive.
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
    """Prepare a request to a URL, which is the same each time."""
    return requests.Request(method, url).prepare()


@lru_cache(maxsize=64)
def _environ_proxies(url: str, _: tuple[str | None, ...]) -> dict[str, str]:
    """Look the environment's proxies up, which costs as much as compressing a batch."""
    return get_environ_proxies(url)


def _of_this_process() -> requests.Session:
    """Return this process' session: a socket shared over a fork would mix two answers."""
    global _session  # noqa: PLW0603 - one tuple, replaced whole
    if _session is None or _session[0] != os.getpid():
        session = requests.Session()
        session.trust_env = False
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        session.mount("https://", DeadlineAdapter(pool_maxsize=POOL))
        session.mount("http://", DeadlineAdapter(pool_maxsize=POOL))
        _session = (os.getpid(), session)
    return _session[1]


def _text(response: requests.Response, source: Source) -> str:
    """Return the start of an answer's text, unless it echoes the credentials.

    The status is the answer: a body that cannot be read changes nothing.
    """
    try:
        text: str = response.raw.read(ANSWER_BYTES, decode_content=True).decode("utf-8", "replace")
    except (HTTPError, OSError, ValueError):
        return ""
    key = source.write_key.reveal() if source.write_key else ""
    token = base64.b64encode(f"{key}:".encode()).decode()
    return "" if key in text or token in text else text


def _failure(error: Exception, source: Source) -> Failure:
    """Say what went wrong without the chain of wrappers, whose texts repeat each other."""
    inner: BaseException = error
    while (deeper := inner.__cause__ or inner.__context__) is not None:
        inner = deeper
    reason = getattr(inner, "reason", None)
    inner = reason if isinstance(reason, BaseException) else inner
    if isinstance(inner, TimeoutError) or isinstance(error, requests.Timeout):
        return Failure(f"no answer from {source.host} within {source.timeout:g} s", "timeout")
    cause = f"no answer from {source.host}: {type(inner).__name__}: {str(inner)[:160]}"
    return Failure(cause, "tls" if isinstance(error, requests.exceptions.SSLError) else "network")
