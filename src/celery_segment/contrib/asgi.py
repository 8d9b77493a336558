"""Middleware for FastAPI, Starlette and any other ASGI application; see docs/how-to/flask.md."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any

from celery_segment.buffer import load_client
from celery_segment.contrib.serving import aserving
from celery_segment.contrib.web import Request, WebVisitor, percent_encoded

__all__ = ["SegmentMiddleware"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def _logged_in(scope: Scope) -> Any:
    """Return the identity of the user that Starlette's AuthenticationMiddleware has set."""
    user: Any = scope.get("user")
    if user is None or not user.is_authenticated:
        return None
    try:
        return user.identity
    except NotImplementedError:  # Starlette's BaseUser does not implement it
        return None


class SegmentMiddleware:
    """ASGI middleware that adds the request's context and visitor to calls made in it.

    The visitor is the id of the user and the anonymous id of analytics.js. The request
    is not read before a call is made.

    Args:
        app: The ASGI application.
        user_id: Function that returns the id of the logged-in user, or None, from the scope
            of the request; it is called at each call. By default, the id is the identity
            set by Starlette's authentication.
    """

    def __init__(
        self,
        app: Callable[[Scope, Receive, Send], Awaitable[None]],
        user_id: Callable[[Scope], Any] = _logged_in,
    ) -> None:
        self.app = app
        self._user_id = user_id
        load_client()  # not within the first request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        visitor = WebVisitor(partial(_read, scope), partial(self._user_id, scope))
        async with aserving(visitor) as end_batch:

            async def send_on(message: Message) -> None:
                if message["type"] == "http.response.start" and (
                    cookie := visitor.response_starts()
                ):
                    kept = ((b"set-cookie", cookie.encode()), (b"vary", b"cookie"))
                    headers = [*message.get("headers", ()), *kept]
                    message = {**message, "headers": headers}
                await send(message)
                if message["type"] == "http.response.body":
                    # Calls made later, by a long stream or a background task, are stored
                    # at once.
                    await end_batch()

            await self.app(scope, receive, send_on)


def _read(scope: Scope) -> Request:
    headers: dict[str, str] = {}
    for key, value in scope["headers"]:
        name, text = key.decode("latin-1"), value.decode("latin-1")
        between = "; " if name == "cookie" else ", "
        headers[name] = f"{headers[name]}{between}{text}" if name in headers else text
    host = headers.get("host")
    return Request(
        headers.get,
        (scope.get("client") or (None,))[0],
        f"{scope.get('scheme', 'http')}://{host}" if host else "",
        percent_encoded(scope["path"]),
        scope.get("query_string", b"").decode("latin-1"),
    )
