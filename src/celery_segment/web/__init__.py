"""Pages for people: the operator's panel, and the debugger of a developer's machine.

Both are sites of the same making. A site answers a request with a value: a page, an action that
was carried out, or a response. A host turns the value into what is sent: the WSGI host here, or
Django's admin.

The pages need the extra ``web``. ``wsgi_panel`` and ``asgi_panel`` return the panel as an
application, to be mounted in another one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from a2wsgi import WSGIMiddleware
    from werkzeug.wrappers import Request

    from celery_segment.web.wsgi import WebApplication

__all__ = ["PASSWORD", "asgi_panel", "wsgi_panel"]

#: The environment variable with the password that visitors have to give.
PASSWORD = "SEGMENT_WEB_PASSWORD"  # noqa: S105 - its name

# Loaded when they are called: the debugger needs nothing of the panel.


def wsgi_panel(
    app: Any,
    *,
    may_view: Callable[[Request], bool],
    may_change: Callable[[Request], bool] | None = None,
) -> WebApplication:
    """Return the operator's panel of a Celery application, as a WSGI application.

    The pages show what waits and what was given up, people's data among it: who may see that is
    for the application around the panel to say.

    Args:
        app: The Celery application.
        may_view: Returns whether a request may read. It gets the werkzeug ``Request``, with
            ``environ``, ``cookies``, ``headers``. ``lambda request: True`` is for a place that
            is protected otherwise.
        may_change: Returns whether a request may replay, purge, pause and forget; by default none
            may.
    """
    from celery_segment.web.panel import panel_site
    from celery_segment.web.wsgi import WebApplication

    return WebApplication(
        panel_site(app), may_view=may_view, may_change=may_change or (lambda _: False)
    )


def asgi_panel(
    app: Any,
    *,
    may_view: Callable[[Request], bool],
    may_change: Callable[[Request], bool] | None = None,
) -> WSGIMiddleware:
    """Return the operator's panel of a Celery application, as an ASGI application.

    Its requests are answered in threads: the event loop waits for nothing.

    Args:
        app: The Celery application.
        may_view: As for ``wsgi_panel``; ``request.environ["asgi.scope"]`` is the ASGI scope, with
            what middleware has put there, such as ``user`` and ``session``.
        may_change: As for ``wsgi_panel``.
    """
    from a2wsgi import WSGIMiddleware

    panel: Any = wsgi_panel(app, may_view=may_view, may_change=may_change)
    return WSGIMiddleware(panel)
