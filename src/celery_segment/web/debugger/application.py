"""The debugger's pages and API as one WSGI application."""

from __future__ import annotations

from collections.abc import Collection

from celery_segment.web.debugger.api import Api
from celery_segment.web.debugger.failures import Failures
from celery_segment.web.debugger.pages import debugger_site
from celery_segment.web.debugger.search import Search
from celery_segment.web.debugger.store import Store
from celery_segment.web.wsgi import LOOPBACK, WebApplication

__all__ = ["make_application"]


def make_application(
    store: Store,
    search: Search,
    failures: Failures,
    host_names: Collection[str],
    password: str | None,
) -> WebApplication:
    """Return the pages and the API.

    Args:
        store: What has arrived.
        search: Finds in it.
        failures: What the endpoint is told to do wrong.
        host_names: Names by which it may be asked, besides those of loopback.
        password: What visitors have to give; None for none.
    """
    return WebApplication(
        debugger_site(store, search, failures),
        may_change=lambda _: True,
        hosts={*LOOPBACK, *host_names},
        password=password,
        api=Api(store, search, failures),
    )
