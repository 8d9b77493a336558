"""A web request's visitor, as the integrations share it.

Headers and cookies are bounded and checked, so that none of them makes a call fail.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import quote, unquote
from uuid import uuid4

from celery import current_app

from celery_segment.config import Settings
from celery_segment.runtime import runtime_of

__all__ = ["Request", "WebVisitor", "percent_encoded", "web_settings"]

#: Characters of a header or an address that are kept.
MAX_TEXT = 2_000
#: analytics.js makes UUIDs; a site may set ids of its own.
MAX_ANONYMOUS_ID = 200
MAX_LOCALE = 35
COOKIE = "ajs_anonymous_id"
#: Seconds for which analytics.js keeps its cookie as well.
YEAR = 365 * 24 * 3600


class Request(NamedTuple):
    """A request, as far as it is looked at.

    ``header`` returns a header's value by its name, ``address`` is the connection's.
    ``origin`` is scheme and host, or "" where the host is not to be trusted; path and
    query are percent-encoded.
    """

    header: Callable[[str], str | None]
    address: str | None
    origin: str
    path: str
    query: str


def percent_encoded(path: str) -> str:
    """Return a path as browsers show it."""
    return quote(path, safe="/:@!$&'()*+,;=")


class WebVisitor:
    """The visitor of a request, which is read when the first call needs it."""

    def __init__(self, read: Callable[[], Request], user_id: Callable[[], Any]) -> None:
        self._read = read
        self._user_id = user_id
        self._set_cookie: str | None = None
        self._answered = False

    @property
    def user_id(self) -> Any:
        """The id of the user who is logged in."""
        return self._user_id()

    @cached_property
    def _request(self) -> Request:
        return self._read()

    @cached_property
    def anonymous_id(self) -> str | None:
        """The id in the cookie of analytics.js."""
        return _anonymous_id(self._request.header("cookie") or "")

    def new_anonymous_id(self) -> str | None:
        """Give the visitor an id, if the settings say so and the response may still keep it."""
        if self._answered or not web_settings().set_anonymous_id:
            return None
        self.anonymous_id = value = str(uuid4())
        secure = "; Secure" if self._request.origin.startswith("https:") else ""
        # analytics.js has to read it, so it is not HttpOnly.
        self._set_cookie = f"{COOKIE}={value}; Max-Age={YEAR}; Path=/; SameSite=Lax{secure}"
        return value

    def response_starts(self) -> str | None:
        """Give no id from now on; return the Set-Cookie header that keeps one given before."""
        self._answered = True
        return self._set_cookie

    @cached_property
    def context(self) -> dict[str, Any]:
        """Segment's context: ip, userAgent, locale and page, as far as they are known."""
        request = self._request
        header = request.header
        forwarded = header("x-forwarded-for") or ""
        return _known(
            ip=_client_ip(request.address, forwarded, web_settings().trusted_proxies),
            userAgent=header("user-agent"),
            locale=_locale(header("accept-language") or ""),
            page=_page(request),
        )


def _known(**values: Any) -> dict[str, Any]:
    return {
        name: value[:MAX_TEXT] if isinstance(value, str) else value
        for name, value in values.items()
        if value
    }


def _page(request: Request) -> dict[str, Any]:
    search = f"?{request.query}" if request.query else ""
    return _known(
        url=request.origin and f"{request.origin}{request.path}{search}",
        path=request.path,
        search=search,
        referrer=request.header("referer"),
    )


def _locale(accepted: str) -> str | None:
    """Return the first language, which browsers put first: ``navigator.language``."""
    first = accepted.partition(",")[0].partition(";")[0].strip()
    return first if first != "*" and len(first) <= MAX_LOCALE else None


def _client_ip(address: str | None, forwarded: str, proxies: int) -> str | None:
    """Return the address that the outermost of the trusted proxies saw.

    What stands further to the left is the client's own word. Where there are fewer
    addresses than proxies, the request did not come through them.
    """
    seen = forwarded.split(",") if forwarded else []
    text = seen[-proxies] if 0 < proxies <= len(seen) else address or ""
    text = text.strip()
    if text.startswith("["):  # [2001:db8::1]:443
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:  # 192.0.2.1:443
        text = text.partition(":")[0]
    try:
        return str(ip_address(text))
    except ValueError:
        return None


def _anonymous_id(cookies: str) -> str | None:
    """Return the id that analytics.js keeps: percent-encoded, by older ones as JSON."""
    for cookie in cookies.split(";"):
        name, _, value = cookie.strip().partition("=")
        if name == COOKIE:
            text = unquote(value)
            if text.startswith('"'):
                try:
                    text = json.loads(text)
                except ValueError:
                    return None
            sane = 0 < len(text) <= MAX_ANONYMOUS_ID and text.isprintable()
            return text if sane and text not in {"null", "undefined"} else None
    return None


def web_settings() -> Settings:
    """Return the settings of the current Celery application."""
    return runtime_of(current_app).settings
