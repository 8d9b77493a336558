"""One site per web framework, as users make it, whose only view runs what a test gives it.

Whatever the framework, `Site.ask` sends a request, with the cookies of those before, and returns
the answer once the request has ended in every respect.
"""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookies import Morsel, SimpleCookie

import flask
import flask_login
import requests
import uvicorn
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from celery_segment.contrib.asgi import SegmentMiddleware
from celery_segment.contrib.flask import Segment
from support import wait_until

ANONYMOUS = "48d213bb-95c3-4f8d-af97-86b2b404dcfe"
COOKIE = "ajs_anonymous_id"
HOST = "shop.example"
HEADERS = {
    "user-agent": "Mozilla/5.0",
    "accept-language": "de-CH,de;q=0.9,en;q=0.8",
    "referer": "https://shop.example/",
}


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]

    @property
    def cookies(self) -> dict[str, Morsel]:
        """What the answer sets."""
        found = SimpleCookie()
        for value in self.header("set-cookie"):
            found.load(value)
        return dict(found)

    @property
    def varies(self) -> list[str]:
        return [name.strip().lower() for value in self.header("vary") for name in value.split(",")]


class Site:
    """A visitor's browser and the site that it looks at."""

    def __init__(self):
        self._view = self._raised = None

    def ask(self, view, path="/", *, status=200, secure=False, **headers) -> Answer:
        """Send a request, and return its answer; the view's error is raised if none is expected.

        A view that returns a generator streams it.
        """
        self._view, self._raised = view, None
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self._send(path, secure, {**HEADERS, **names})
        if self._raised and status == 200:
            raise self._raised
        assert answer.status == status
        return answer

    def _run(self):
        """Run the view; return its body, or the parts of what it streams."""
        try:
            found = self._view()
        except BaseException as error:
            self._raised = error
            raise
        return found if hasattr(found, "__next__") else b"done"

    def set_cookie(self, value):
        """Let the browser have an id of analytics.js, or none."""
        raise NotImplementedError

    def log_in(self) -> str:
        """Log a user in for the requests to come; return the id."""
        raise NotImplementedError

    def _send(self, path, secure, headers) -> Answer:
        raise NotImplementedError


class DjangoSite(Site):
    """Under WSGI, in Django's test client; needs the fixture `project`."""

    def __init__(self):
        from django.test import Client

        super().__init__()
        self.client = Client(raise_request_exception=False)

    @contextmanager
    def entered(self):
        from django.test import override_settings
        from django.urls import re_path

        with override_settings(ROOT_URLCONF=(re_path("", self._answer),)):
            yield self

    def _answer(self, _):
        from django.http import HttpResponse, StreamingHttpResponse

        found = self._run()
        return HttpResponse(found) if found == b"done" else StreamingHttpResponse(found)

    def set_cookie(self, value):
        self.client.cookies.pop(COOKIE, None)
        if value:
            self.client.cookies[COOKIE] = value

    def log_in(self):
        from django.contrib.auth.models import User

        user = User.objects.create_user(f"user{User.objects.count()}")
        self.client.force_login(user)
        return str(user.pk)

    def _send(self, path, secure, headers):
        response = self.client.get(path, secure=secure, headers={**headers, "host": HOST})
        set_cookies = [("Set-Cookie", m.OutputString()) for m in response.cookies.values()]
        return Answer(response.status_code, [*response.items(), *set_cookies], b"".join(response))


class FlaskSite(Site):
    """With flask-login, in Flask's test client."""

    def __init__(self):
        super().__init__()
        app = flask.Flask("shop")
        app.secret_key = "of the tests"
        Segment(app)
        flask_login.LoginManager(app).user_loader(_FlaskUser)
        app.add_url_rule("/log-in", view_func=self._log_in)
        app.add_url_rule("/", view_func=self._answer, defaults={"path": ""})
        app.add_url_rule("/<path:path>", view_func=self._answer)
        self.client = app.test_client()

    @contextmanager
    def entered(self):
        yield self

    def _answer(self, path):  # noqa: ARG002 - any
        return flask.Response(self._run())

    def _log_in(self):
        flask_login.login_user(_FlaskUser("7"))
        return "welcome"

    def set_cookie(self, value):
        if value:
            self.client.set_cookie(COOKIE, value, domain=HOST)
        else:
            self.client.delete_cookie(COOKIE, domain=HOST)

    def log_in(self):
        assert self.client.get("/log-in", base_url=f"http://{HOST}").text == "welcome"
        return "7"

    def _send(self, path, secure, headers):
        base = f"{'https' if secure else 'http'}://{HOST}"
        response = self.client.get(path, base_url=base, headers=headers)
        return Answer(response.status_code, [*response.headers], response.data)


class _FlaskUser(flask_login.UserMixin):
    def __init__(self, user_id):
        self.id = user_id


class ServedSite(Site):
    """An ASGI application under uvicorn."""

    app = None

    def __init__(self):
        super().__init__()
        self._cookies = {}
        self._secure = False
        self._ended = threading.Event()

    @contextmanager
    def entered(self):
        # The address is the connection's: what proxies say is for the middleware to judge.
        config = uvicorn.Config(
            self._served, interface="asgi3", log_config=None, proxy_headers=False, lifespan="off"
        )
        server = uvicorn.Server(config)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self._url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            thread = threading.Thread(target=server.run, args=([listener],))
            thread.start()
            try:
                wait_until(lambda: server.started)
                yield self
            finally:
                server.should_exit = True
                thread.join()

    async def _served(self, scope, receive, send):
        if self._secure:  # as a server says that has the certificate
            scope = {**scope, "scheme": "https"}
        try:
            await self.app(scope, receive, send)
        finally:
            self._ended.set()

    def set_cookie(self, value):
        self._cookies[COOKIE] = value

    def _send(self, path, secure, headers):
        self._secure = secure
        self._ended.clear()
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items() if value)
        headers = {**headers, "host": HOST, "connection": "close"}
        headers |= {"cookie": cookies} if cookies else {}
        with requests.Session() as session:
            session.trust_env = False
            response = session.get(self._url + path, headers=headers, timeout=20)
        assert self._ended.wait(20)
        pairs = [*response.raw.headers.items()]
        answer = Answer(response.status_code, pairs, response.content)
        self._cookies |= {name: morsel.value for name, morsel in answer.cookies.items()}
        return answer


class AsyncDjangoSite(ServedSite):
    """With an async view; needs the fixture `project`."""

    @contextmanager
    def entered(self):
        from django.core.handlers.asgi import ASGIHandler
        from django.test import override_settings
        from django.urls import re_path

        with override_settings(ROOT_URLCONF=(re_path("", self._answer),)):
            self.app = ASGIHandler()
            with super().entered():
                yield self

    @property
    def _answer(self):
        from django.http import HttpResponse, StreamingHttpResponse

        async def answer(_):
            found = self._run()
            if found == b"done":
                return HttpResponse(found)
            return StreamingHttpResponse(_async(found))

        return answer

    def log_in(self):
        site = DjangoSite()
        user = site.log_in()
        self._cookies |= {name: morsel.value for name, morsel in site.client.cookies.items()}
        return user


class StarletteSite(ServedSite):
    """With Starlette's authentication."""

    def __init__(self):
        super().__init__()
        middleware = [
            Middleware(SegmentMiddleware),
            Middleware(AuthenticationMiddleware, backend=_ByCookie()),
        ]
        routes = [Route("/{path:path}", self._answer)]
        self.app = Starlette(routes=routes, middleware=middleware)

    async def _answer(self, _):
        found = self._run()
        return PlainTextResponse(found) if found == b"done" else StreamingResponse(_async(found))

    def log_in(self):
        self._cookies["user"] = "7"
        return "7"


class _ByCookie(AuthenticationBackend):
    async def authenticate(self, conn):
        name = conn.cookies.get("user")
        return (AuthCredentials(), SimpleUser(name)) if name else None


async def _async(parts):
    for part in parts:
        yield part
