"""Serve a site by WSGI: by itself, or mounted in another application.

A page is only shown to who asks for it by a name that this host is known by: a name of somebody
else that leads to a loopback address (DNS rebinding) shows nothing. A form is only taken from a
page of the site itself.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Collection, Iterable
from secrets import token_urlsafe
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Request, Response

from celery_segment.text import one_line
from celery_segment.web.site import Site
from celery_segment.web.visit import Access, Done, Page, Visit

__all__ = ["LOOPBACK", "LiveHeader", "WebApplication", "is_of_another_site"]

#: The names by which a loopback address is asked.
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
#: The header by which a page's script asks for the content alone.
LiveHeader = "X-Segment-Live"

_BAD = 400
_TOKEN, _DONE = "segment_token", "segment_done"
#: The largest form, in bytes, and the most of its fields.
_LARGEST, _FIELDS = 1_000_000, 2_000
#: The most characters of what was done: a cookie takes 4,096 bytes.
_TOLD = 300
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self';"
        " img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class _Request(Request):
    max_content_length = max_form_memory_size = _LARGEST
    max_form_parts = _FIELDS


class WebApplication:
    """A site as a WSGI application.

    Args:
        site: The site.
        may_view: Returns whether a request may read; by default each may.
        may_change: Returns whether a request may change anything; by default none may.
        hosts: The names by which this host may be asked, without a port; None for any, where
            another application decides.
        password: What a visitor has to give as the password of HTTP's basic authentication, with
            any user name; None for none.
        api: Answers what is no page, from whoever may read; returns None for a page. It has to
            refuse by itself what another site has a browser send.
    """

    def __init__(
        self,
        site: Site,
        *,
        may_view: Callable[[Request], bool] = lambda _: True,
        may_change: Callable[[Request], bool] = lambda _: False,
        hosts: Collection[str] | None = None,
        password: str | None = None,
        api: Callable[[Request], Response | None] = lambda _: None,
    ) -> None:
        self._site = site
        self._may_view, self._may_change = may_view, may_change
        self._hosts = None if hosts is None else frozenset(hosts)
        self._password = password
        self._api = api

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answer a request."""
        request = _Request(environ)
        try:
            response = self._refusal(request) or self._api(request) or self._respond(request)
        except HTTPException as error:  # a form that is too large, or none
            response = _plain(f"{error.name}.", error.code or _BAD)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Cache-Control", "no-store")
        return response(environ, start_response)

    def _refusal(self, request: Request) -> Response | None:
        if self._hosts is not None and _name_of(request.host) not in self._hosts:
            return _plain("This host is not known by that name.", 421)
        if self._password is not None and not self._knows_password(request):
            response = _plain("A password is needed.", 401)
            response.www_authenticate = WWWAuthenticate("basic", {"realm": self._site.name})
            return response
        return None if self._may_view(request) else _plain("You may not look at this.", 403)

    def _knows_password(self, request: Request) -> bool:
        given = request.authorization.password if request.authorization else None
        return given is not None and hmac.compare_digest(
            given.encode(), (self._password or "").encode()
        )

    def _respond(self, request: Request) -> Response:
        token = request.cookies.get(_TOKEN) or token_urlsafe(24)
        if request.method not in {"GET", "HEAD"} and not _is_own(request, token):
            return _plain("This form is not from a page of this site: load the page again.", 403)
        access = Access(change=self._may_change(request), token=token)
        visit = self._site.visit(request, access)
        answer = self._site.answer(visit)
        match answer:
            case Page():
                response = self._show(visit, answer)
            case Done():
                response = Response(status=303, headers={"Location": answer.to})
                told = [one_line(answer.text)[:_TOLD], answer.failed]
                told_as = quote(json.dumps(told, ensure_ascii=False))
                _set_cookie(request, response, _DONE, told_as, max_age=30)
            case _:
                return answer
        if _TOKEN not in request.cookies:
            _set_cookie(request, response, _TOKEN, token)
        return response

    def _show_content(self, visit: Visit, page: Page) -> Response:
        if page.version and visit.request.if_none_match.contains(page.version):
            return Response(status=304)
        response = Response(self._site.content(visit, page), page.status, mimetype="text/html")
        if page.version:
            response.set_etag(page.version)
        return response

    def _show(self, visit: Visit, page: Page) -> Response:
        if LiveHeader in visit.request.headers:
            return self._show_content(visit, page)
        done = _read_done(visit.request.cookies.get(_DONE))
        document = self._site.document(visit, page, done)
        response = Response(document, page.status, mimetype="text/html")
        if done:
            response.delete_cookie(_DONE, path=visit.request.root_path or "/")
        return response


def is_of_another_site(request: Request) -> bool:
    """Return whether a browser says that a page of another site made it send a request."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
        return True
    origin = request.headers.get("Origin")
    return origin is not None and urlsplit(origin).netloc != request.host


def _is_own(request: Request, token: str) -> bool:
    """Return whether a form comes from a page of this site."""
    if is_of_another_site(request):
        return False
    given = request.form.get("token", "")
    return _TOKEN in request.cookies and hmac.compare_digest(given.encode(), token.encode())


def _set_cookie(
    request: Request, response: Response, name: str, value: str, max_age: int | None = None
) -> None:
    response.set_cookie(
        name,
        value,
        max_age=max_age,
        path=request.root_path or "/",
        secure=request.is_secure,
        httponly=True,
        samesite="Strict",
    )


def _read_done(cookie: str | None) -> tuple[str, bool] | None:
    if not cookie:
        return None
    try:
        text, failed = json.loads(unquote(cookie))
    except (ValueError, TypeError):
        return None
    return str(text), bool(failed)


def _name_of(host: str) -> str:
    """Return a Host header's name, without its port, in lower case."""
    host = host.lower()
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]


def _plain(text: str, status: int) -> Response:
    return Response(f"{text}\n", status, mimetype="text/plain")
