"""Have Django's admin be the host of a site: it has the frame, the users, and the log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from contextlib import closing
from functools import partial
from http import HTTPStatus
from io import BytesIO
from typing import TYPE_CHECKING

from asgiref.sync import sync_to_async
from django.contrib import messages
from django.contrib.admin.utils import unquote as unquote_key
from django.core.handlers.asgi import ASGIRequest
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.middleware.csrf import get_token
from django.template.response import TemplateResponse
from django.utils.safestring import mark_safe
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Request, Response

from celery_segment.text import one_line
from celery_segment.web.site import Site
from celery_segment.web.visit import Access, Done, Page, Visit
from celery_segment.web.wsgi import LiveHeader

if TYPE_CHECKING:
    from celery_segment.contrib.django.admin import PanelAdmin

__all__ = ["answer", "redirect_to_source"]

_TEMPLATE = "admin/celery_segment/panel.html"
_FORM = "application/x-www-form-urlencoded"


def answer(admin: PanelAdmin, request: HttpRequest, rest: str) -> HttpResponseBase:
    """Answer a request of a user who may view the panel.

    Args:
        admin: The part of the admin that the site is shown in.
        request: The request.
        rest: The path below that of the panel, without a slash at its start.
    """
    site = admin.site()
    visit = site.visit(_translate(request, admin.root(), rest), _access(admin, request))
    found = site.answer(visit)
    if request.method == "POST" and visit.access.change:
        _log(admin, request, visit, found)
    match found:
        case Page():
            return _show(admin, request, site, visit, found)
        case Done():
            tell = messages.error if found.failed else messages.success
            tell(request, one_line(found.text))
            return HttpResponseRedirect(found.to)
    return _convert(request, found)


def redirect_to_source(admin: PanelAdmin, request: HttpRequest, quoted: str) -> HttpResponseBase:
    """Redirect to the page of a source, to which the entries of the admin's log lead.

    Args:
        admin: The part of the admin that the site is shown in.
        request: The request.
        quoted: The name of the source as the admin quotes keys.
    """
    visit = admin.site().visit(_translate(request, admin.root(), ""), Access())
    return HttpResponseRedirect(visit.url("source", name=unquote_key(quoted)))


def _translate(request: HttpRequest, root: str, rest: str) -> Request:
    """Return a request of Django's, however it was served, as one of the site that is at root."""
    form = request.POST.urlencode().encode() if request.method == "POST" else b""
    told = {name: value for name, value in request.META.items() if isinstance(value, str)}
    environ = {
        **told,
        "REQUEST_METHOD": request.method,
        # As it is to stand in addresses: werkzeug puts it before those that it builds.
        "SCRIPT_NAME": root.rstrip("/"),
        "PATH_INFO": f"/{rest}".encode().decode("latin-1"),  # as WSGI has texts
        "QUERY_STRING": request.META.get("QUERY_STRING", ""),
        "HTTP_HOST": request.get_host(),
        "CONTENT_TYPE": _FORM if form else "",
        "CONTENT_LENGTH": str(len(form)),
        "wsgi.url_scheme": request.scheme,
        "wsgi.input": BytesIO(form),
    }
    translated = Request(environ)
    # Django has read the form within its own limits.
    translated.max_content_length = translated.max_form_memory_size = None
    return translated


def _access(admin: PanelAdmin, request: HttpRequest) -> Access:
    change = bool(admin.has_change_permission(request))
    return Access(change, token_field="csrfmiddlewaretoken", token=get_token(request))  # noqa: S106


def _log(
    admin: PanelAdmin, request: HttpRequest, visit: Visit, found: Page | Done | Response
) -> None:
    """Write into the admin's log which action was done, or failed; reading is not logged."""
    try:
        action, values = visit.urls.match()
    except HTTPException:  # there is no such action
        return
    match found:
        case Done():
            said = f"Failed: {found.text}" if found.failed else found.text
        case Page() if found.status < HTTPStatus.BAD_REQUEST:
            return
        case Page():
            said = f"Failed: {found.values.get('text', found.title)}"
        case _:
            said = "Downloaded."
    source = found.source if isinstance(found, Done) else str(values.get("name", ""))
    admin.log_change(request, admin.model(name=source), one_line(f"{action}: {said}"))


def _show(
    admin: PanelAdmin, request: HttpRequest, site: Site, visit: Visit, page: Page
) -> HttpResponseBase:
    content = mark_safe(site.content(visit, page))  # noqa: S308 - its templates escape
    if LiveHeader in visit.request.headers:
        return HttpResponse(content, status=page.status)
    context = {
        **admin.admin_site.each_context(request),
        "title": page.title,
        "opts": admin.opts,
        "segment_content": content,
        "segment_style": site.asset(visit, "pages.css"),
        "segment_script": site.asset(visit, "pages.js"),
    }
    # Its templates tell the namespace of the admin's addresses by it.
    request.current_app = admin.admin_site.name
    return TemplateResponse(request, _TEMPLATE, context, status=page.status)


def _convert(request: HttpRequest, response: Response) -> HttpResponseBase:
    """Return a response of the site's as one of Django's; one that is streamed stays so."""
    if response.is_sequence:
        converted = HttpResponse(response.get_data(), status=response.status_code)
    else:
        parts = _parts(response)
        # Of an iterator that is not asynchronous, Django would collect all before it sends any.
        streamed = _one_by_one(parts) if isinstance(request, ASGIRequest) else parts
        converted = StreamingHttpResponse(streamed, status=response.status_code)
    for name, value in response.headers.items():
        converted[name] = value
    return converted


def _parts(response: Response) -> Generator[bytes]:
    with closing(response):
        yield from response.iter_encoded()


async def _one_by_one(parts: Generator[bytes]) -> AsyncIterator[bytes]:
    try:
        while (part := await sync_to_async(partial(next, parts, None))()) is not None:
            yield part
    finally:
        await sync_to_async(parts.close)()
