"""The visitor of a web request, shared by the integrations.

The size of headers and cookies is limited and their content is checked, so that none of
them makes a call fail.
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

#: Number of characters kept of a header or an address.
MAX_TEXT = 2_000
#: Longest id accepted from the cookie: analytics.js sets UUIDs, a site may set its own ids.
MAX_ANONYMOUS_ID = 200
MAX_LOCALE = 35
COOKIE = "ajs_anonymous_id"
#: Lifetime of the cookie in seconds, as set by analytics.js.
YEAR = 365 * 24 * 3600


class Request(NamedTuple):
    """The parts of a request that are read.

    Attributes:
        header: Function that returns the value of a header by its name, or None.
        address: The address of the connection.
        origin: Scheme and host; empty if the host is not trusted.
        path: The percent-encoded path.
        query: The percent-encoded query, without "?".
    """

    header: Callable[[str], str | None]
    address: str | None
    origin: str
    path: str
    query: str

    def __repr__(self) -> str:
        return "Request(...)"  # the rest is personal data


def percent_encoded(path: str) -> str:
    """Return a path percent-encoded as in browsers."""
    return quote(path, safe="/:@!$&'()*+,;=")


class WebVisitor:
    """The visitor of a request, which is not read before a call needs it."""

    def __init__(self, read: Callable[[], Request], user_id: Callable[[], Any]) -> None:
        self._read = read
        self._user_id = user_id
        self._set_cookie: str | None = None
        self._answered = False

    @property
    def user_id(self) -> Any:
        """The id of the logged-in user."""
        return self._user_id()

    @cached_property
    def _request(self) -> Request:
        return self._read()

    @property
    def _cookies(self) -> str:
        return self._request.header("cookie") or ""

    @cached_property
    def anonymous_id(self) -> str | None:
        """The id in the cookie of analytics.js."""
        return _anonymous_id(self._cookies)

    def new_anonymous_id(self) -> str | None:
        """Create an id, if segment_set_anonymous_id is on and its cookie can still be set.

        A known user without any cookie, not even that of a session, is a client of an API: it
        would not keep this one either, and get another id with each request.
        """
        if self._answered or not web_settings().set_anonymous_id:
            return None
        if not self._cookies and self.user_id is not None:
            return None
        self.anonymous_id = value = str(uuid4())
        secure = "; Secure" if self._request.origin.startswith("https:") else ""
        # analytics.js has to read it, so it is not HttpOnly.
        self._set_cookie = f"{COOKIE}={value}; Max-Age={YEAR}; Path=/; SameSite=Lax{secure}"
        return value

    def response_starts(self) -> str | None:
        """Stop creating ids; return the Set-Cookie header for an id created before, if any."""
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
    """Return the first language, in browsers the same as ``navigator.language``."""
    first = accepted.partition(",")[0].partition(";")[0].strip()
    return first if first != "*" and len(first) <= MAX_LOCALE else None


def _client_ip(address: str | None, forwarded: str, proxies: int) -> str | None:
    """Return the client's address as seen by the outermost of the trusted proxies.

    Addresses further to the left were set by the client and cannot be trusted. If there
    are fewer addresses than proxies, the request did not come through them, and the
    connection's address is used.
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
    """Return the id in the cookie of analytics.js: percent-encoded, JSON in older versions."""
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
