"""What the middleware does with what only ASGI has: threads, tasks, streams, clients that leave."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import contextmanager

import pytest
import requests
import uvicorn
from starlette.applications import Starlette
from starlette.authentication import (
    AuthCredentials,
    AuthenticationBackend,
    BaseUser,
    SimpleUser,
)
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from celery_segment import track
from celery_segment.contrib.asgi import SegmentMiddleware
from sites import ANONYMOUS, HEADERS, HOST
from support import stored, wait_until


class Nameless(BaseUser):
    is_authenticated = True
    display_name = "a user without an identity"


class ByHeader(AuthenticationBackend):
    async def authenticate(self, conn):
        name = conn.headers.get("x-user")
        user = Nameless() if name == "nameless" else SimpleUser(name)
        return (AuthCredentials(), user) if name else None


async def look(request):
    track.delay(event="Item Viewed", properties=dict(request.path_params))
    return PlainTextResponse("item")


def look_in_a_thread(request):
    return asyncio.run(look(request))


async def aside(_):
    await asyncio.to_thread(track.delay, event="Aside")
    return PlainTextResponse("item")


#: Set when a stream may go on.
go_on = threading.Event()


async def stream(_):
    async def parts():
        yield b"first"
        await asyncio.to_thread(go_on.wait, 20)
        track.delay("u", "While")
        yield b"second"

    track.delay("u", "Before")
    after = BackgroundTask(track.delay, "u", "After")
    return StreamingResponse(parts(), background=after)


@contextmanager
def served(**options):
    """Serve an application as users make it; yield its address."""
    middleware = [
        Middleware(SegmentMiddleware, **options),
        Middleware(AuthenticationMiddleware, backend=ByHeader()),
    ]
    routes = [
        Route("/items/{item}", look),
        Route("/thread/{item}", look_in_a_thread),
        Route("/aside", aside),
        Route("/stream", stream),
    ]
    config = uvicorn.Config(Starlette(routes=routes, middleware=middleware), log_config=None)
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


@pytest.fixture
def browser():
    with requests.Session() as browser:
        browser.trust_env = False
        cookie = f"ajs_anonymous_id={ANONYMOUS}"
        browser.headers.update({**HEADERS, "host": HOST, "cookie": cookie, "connection": "close"})
        yield browser


def test_a_call_has_the_requests_user_in_threads_too(make_app, browser, segment_outbox):
    make_app()
    with served() as url:
        for path in ("/items/2", "/thread/3", "/aside"):
            browser.get(f"{url}{path}", headers={"x-user": "7"})
        browser.get(f"{url}/items/4", headers={"x-user": "nameless"})
    *known, nameless = segment_outbox
    assert [m["userId"] for m in known] == ["7", "7", "7"]
    assert known[2]["context"]["page"]["path"] == "/aside"
    assert nameless["anonymousId"] == ANONYMOUS
    assert "userId" not in nameless


def test_an_id_that_no_response_can_keep_is_not_given(make_app, segment_outbox):
    make_app(segment_set_anonymous_id=True)
    sent = []

    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        assert track.delay(event="Late").state == "IGNORED"
        await send({"type": "http.response.body", "body": b""})

    async def send(message):
        sent.append(message)

    asyncio.run(SegmentMiddleware(app)({"type": "http", "path": "/", "headers": []}, None, send))
    assert [m["type"] for m in sent] == ["http.response.start", "http.response.body"]
    assert sent[0]["headers"] == []
    segment_outbox.assert_nothing()


def test_users_of_ones_own(make_app, browser, segment_outbox):
    make_app()
    with served(user_id=lambda scope: scope["path_params"]["item"]) as url:
        browser.get(f"{url}/items/7")
    segment_outbox.assert_tracked("Item Viewed", user_id=7, anonymous_id=ANONYMOUS)


def test_what_a_stream_and_a_background_task_call_waits_for_nothing(make_app, browser, redis):
    make_app(segment_batch_requests=True)

    def events():
        return [m["event"] for m in stored(redis)]

    go_on.clear()
    with served() as url, browser.get(f"{url}/stream", stream=True) as response:
        parts = response.iter_content(None)
        assert next(parts) == b"first"
        wait_until(lambda: events() == ["Before"])
        go_on.set()
        assert next(parts) == b"second"
        wait_until(lambda: events() == ["Before", "While", "After"])


def test_a_client_that_hangs_up_loses_nothing(make_app, redis):
    make_app(segment_batch_requests=True)

    async def app(*_):
        track.delay("u", "Before")
        await asyncio.Event().wait()

    async def hang_up():
        scope = {"type": "http", "path": "/", "headers": []}
        request = asyncio.create_task(SegmentMiddleware(app)(scope, None, None))
        for _ in range(2):
            await asyncio.sleep(0)
            request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert stored(redis) == []

    asyncio.run(hang_up())  # which cancels what its loop still runs
    assert [m["event"] for m in stored(redis)] == ["Before"]
