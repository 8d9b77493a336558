"""Flask extension, ``Segment(app)``; see docs/how-to/flask.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Flask, current_app
from werkzeug.wrappers import Request as WSGIRequest

from celery_segment.buffer import load_client
from celery_segment.contrib.serving import serving
from celery_segment.contrib.web import Request, WebVisitor, percent_encoded

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["Segment"]


def _logged_in() -> Any:
    """Return the id of flask-login's current user, if the application uses flask-login."""
    if not current_app or not hasattr(current_app, "login_manager"):
        return None
    from flask_login import current_user

    return current_user.get_id() if current_user and current_user.is_authenticated else None


class Segment:
    """Flask extension that adds the request's context and visitor to calls made in it.

    The visitor is the id of the user and the anonymous id of analytics.js. The request
    is not read before a call is made.

    Args:
        app: The Flask application. Without it, call ``init_app`` later.
        user_id: Function that returns the id of the logged-in user, or None; it is called
            within the request, at each call. By default, the id is that of flask-login, if
            the application uses it.
    """

    def __init__(
        self, app: Flask | None = None, *, user_id: Callable[[], Any] = _logged_in
    ) -> None:
        self._user_id = user_id
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Register the extension with an application; import what the first call needs."""
        load_client()
        app.wsgi_app = partial(self._answer, app.wsgi_app)  # type: ignore[method-assign]

    def _answer(
        self,
        wsgi_app: Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]],
        environ: WSGIEnvironment,
        start_response: StartResponse,
    ) -> Iterable[bytes]:
        visitor = WebVisitor(partial(_read, environ), self._user_id)

        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            if cookie := visitor.response_starts():
                headers = [*headers, ("Set-Cookie", cookie), ("Vary", "Cookie")]
            return start_response(status, headers, *exc_info)

        with serving(visitor):
            return wsgi_app(environ, start)


def _read(environ: WSGIEnvironment) -> Request:
    request = WSGIRequest(environ)
    return Request(
        request.headers.get,
        request.remote_addr,
        f"{request.scheme}://{request.host}",
        percent_encoded(request.root_path + request.path),
        request.query_string.decode("latin-1"),
    )
