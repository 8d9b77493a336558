"""Middleware that makes the visitor of a request that of the calls made in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.exceptions import DisallowedHost, SynchronousOnlyOperation
from django.db import connections
from django.http import HttpRequest, HttpResponseBase
from django.utils.cache import patch_vary_headers

from celery_segment.contrib.serving import aserving, serving
from celery_segment.contrib.web import Request, WebVisitor

__all__ = ["SegmentMiddleware"]


class SegmentMiddleware:
    """Django middleware that adds the request's context and visitor to calls made in it.

    The visitor is the id of the user and the anonymous id of analytics.js. The request,
    its session and its user are not read before a call is made.
    """

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Handle a request."""
        visitor = WebVisitor(partial(_read, request), partial(self._user_id, request))
        if self._is_async:
            return self._answer(request, visitor)
        with serving(visitor):
            return _keeping_id(visitor, self.get_response(request))

    async def _answer(self, request: HttpRequest, visitor: WebVisitor) -> HttpResponseBase:
        async with aserving(visitor):
            return _keeping_id(visitor, await self.get_response(request))

    def user_id(self, user: Any) -> Any:
        """Return the id of a user in Segment; override it if that is not the primary key."""
        return user.pk

    def _user_id(self, request: HttpRequest) -> Any:
        user = _user_of(request)
        return None if user is None else self.user_id(user)


def _keeping_id(visitor: WebVisitor, response: HttpResponseBase) -> HttpResponseBase:
    if cookie := visitor.response_starts():
        response.cookies.load(cookie)
        # Without Vary, Django's cache would send the cookie to other visitors.
        patch_vary_headers(response, ("Cookie",))
    return response


def _read(request: HttpRequest) -> Request:
    try:
        origin = f"{request.scheme}://{request.get_host()}"
    except DisallowedHost:  # reported by Django; a call must not fail for it
        origin = ""
    path, _, query = request.get_full_path().partition("?")
    return Request(request.headers.get, request.META.get("REMOTE_ADDR"), origin, path, query)


def _user_of(request: HttpRequest) -> Any:
    """Return the user who is logged in, or None."""
    user = getattr(request, "user", None)  # lazy: reading is_authenticated loads it
    try:
        known = user is not None and user.is_authenticated
    except SynchronousOnlyOperation:
        # In an async view, which may have awaited request.auser(); that has a cache of its own.
        user = getattr(request, "_acached_user", None) or _load_in_thread(user)
        known = user.is_authenticated
    return user if known else None


def _load_in_thread(user: Any) -> Any:
    """Load a lazy user in a thread, with its own database connections."""

    def load() -> None:
        try:
            user.is_authenticated  # noqa: B018 - reading it loads the user
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(copy_context().run, load).result()
    return user
