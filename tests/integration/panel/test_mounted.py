"""The panel mounted in another application, which says who may see and change what."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager

import flask
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.routing import Mount
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from celery_segment import Analytics
from celery_segment.web import asgi_panel, wsgi_panel
from panels import Guest, Visitor, bury
from support import wait_until


def test_in_a_wsgi_application(app):
    shop = flask.Flask("shop")
    shop.add_url_rule("/", view_func=lambda: "the shop")
    panel = wsgi_panel(
        app,
        may_view=lambda request: request.remote_user is not None,
        may_change=lambda request: request.remote_user == "ada",
    )
    batch = bury(app, "A")
    mounted = DispatcherMiddleware(shop.wsgi_app, {"/ops/segment": panel})

    def visitor_named(name):
        def named(environ, start_response):
            return mounted({**environ, **({"REMOTE_USER": name} if name else {})}, start_response)

        return Visitor(named)

    assert visitor_named(None).get("/").text == "the shop"
    assert visitor_named(None).get("/ops/segment/").status_code == 403
    bob = visitor_named("bob").open(f"/ops/segment/sources/default/dead/{batch}")
    assert (bob.status, bob.forms) == (200, [])
    ada = visitor_named("ada")
    page = ada.open("/ops/segment/sources/default/dead")
    assert page.links[batch] == f"/ops/segment/sources/default/dead/{batch}"
    assert "Replayed 1 message." in ada.press(page, "Replay all").text


class ByHeader(AuthenticationBackend):
    async def authenticate(self, conn):
        name = conn.headers.get("x-user")
        return (AuthCredentials(), SimpleUser(name)) if name else None


def is_user(request):
    return request.environ["asgi.scope"]["user"].is_authenticated


def is_ada(request):
    return is_user(request) and request.environ["asgi.scope"]["user"].display_name == "ada"


@contextmanager
def served(app):
    """Serve an ASGI application with the panel of a Celery application; yield its address."""
    panel = Mount("/ops/segment", asgi_panel(app, may_view=is_user, may_change=is_ada))
    middleware = [Middleware(AuthenticationMiddleware, backend=ByHeader())]
    config = uvicorn.Config(Starlette(routes=[panel], middleware=middleware), log_config=None)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            wait_until(lambda: server.started)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.mark.parametrize("name", [None, "bob", "ada"])
def test_in_an_asgi_application(app, name):
    batch = bury(app, "A", "B")
    with served(app) as url, Guest(url) as guest:
        if name:
            guest.headers["x-user"] = name
        page = guest.open("/ops/segment/sources/default/dead")
        assert page.status == (200 if name else 403)
        if name:
            assert page.links[batch] == f"/ops/segment/sources/default/dead/{batch}"
            # The whole of a download, in parts.
            export = guest.get("/ops/segment/sources/default/export", all=1)
            assert export.content.count(b"\n") == 2
        if name == "ada":
            assert "Replayed 2 messages." in guest.press(page, "Replay all").text
        else:
            fields = {"token": "guessed", "all": "1"}
            answer = guest.submit("/ops/segment/sources/default/replay", fields)
            assert answer.status_code == 403
    assert Analytics(app=app).stats().dead.messages == (0 if name == "ada" else 2)
