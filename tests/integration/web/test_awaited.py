"""The calls in ASGI applications of each framework, under uvicorn."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
import requests
import uvicorn
from fastapi import FastAPI
from quart import Quart
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from celery_segment import Analytics, track
from celery_segment.contrib.asgi import SegmentMiddleware
from celery_segment.testing import EmbeddedRedis
from support import TESTS, free_port, stored, wait_until

#: The machine may be busy.
PATIENT = {"segment_redis_timeout": 20}
HEADERS = {"cookie": "ajs_anonymous_id=a1b2", "user-agent": "Firefox", "connection": "close"}


async def buy():
    """Track in the ways there are; the visitor is the request's."""
    await track.adelay(event="One")
    async with Analytics().abatch():
        await track.adelay(event="Two")
        await track.adelay(event="Three")
    await asyncio.gather(*[track.adelay(event="Four") for _ in range(3)])
    return "bought"


def fastapi():
    app = FastAPI()
    app.add_middleware(SegmentMiddleware)
    app.get("/buy")(buy)
    return app


def starlette():
    async def view(_):
        return PlainTextResponse(await buy())

    app = Starlette(routes=[Route("/buy", view)])
    app.add_middleware(SegmentMiddleware)
    return app


def quart():
    app = Quart(__name__)
    app.asgi_app = SegmentMiddleware(app.asgi_app)
    app.get("/buy")(buy)
    return app


def django():
    """Django's own middleware; needs the project of the tests."""
    from django.core.handlers.asgi import ASGIHandler
    from django.http import HttpResponse
    from django.urls import path

    async def view(_):
        return HttpResponse(await buy())

    return ASGIHandler(), (path("buy", view),)


@contextmanager
def served(app, loop):
    config = uvicorn.Config(app, loop=loop, log_config=None, lifespan="off")
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


def visit(app, loop):
    with served(app, loop) as url, requests.Session() as session:
        session.trust_env = False
        for _ in range(2):
            response = session.get(f"{url}/buy", headers=HEADERS, timeout=20)
            assert response.status_code == 200
            assert "bought" in response.text


@pytest.mark.parametrize("batched", [False, True], ids=["at once", "per request"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("framework", [fastapi, starlette, quart])
def test_a_views_calls_are_stored_as_its_visitors(make_app, redis, framework, loop, batched):
    make_app(segment_batch_requests=batched, **PATIENT)
    visit(framework(), loop)
    check(stored(redis))


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.usefixtures("project")
def test_those_of_an_async_view_of_django_too(make_app, redis, loop):
    from django.test import override_settings

    make_app(**PATIENT)
    app, urls = django()
    with override_settings(ROOT_URLCONF=urls, ALLOWED_HOSTS=["*"]):
        visit(app, loop)
    check(stored(redis))


def check(messages):
    assert sorted(m["event"] for m in messages) == sorted(
        [*["One", "Two", "Three"] * 2, *["Four"] * 6]
    )
    assert {m["anonymousId"] for m in messages} == {"a1b2"}
    assert {m["context"]["userAgent"] for m in messages} == {"Firefox"}
    assert {m["context"]["page"]["path"] for m in messages} == {"/buy"}


class Server:
    """The application of ``loopapp``, under uvicorn in a process of its own."""

    def __init__(self, loop, **conf):
        self._port = free_port()
        environ = {
            **os.environ,
            "SEGMENT_TEST_CONF": json.dumps(conf),
            "PYTHONPATH": str(TESTS),
            "SEGMENT_CAPTURE": "0",
        }
        command = [sys.executable, "-m", "uvicorn", "loopapp:app", "--port", str(self._port)]
        command += ["--loop", loop, "--log-level", "warning"]
        self._process = subprocess.Popen(command, env=environ)
        wait_until(self._listens)

    def _listens(self):
        try:
            socket.create_connection(("127.0.0.1", self._port)).close()
        except OSError:
            return False
        return True

    async def get(self, path):
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(f"GET /{path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return json.loads(answer.partition(b"\r\n\r\n")[2])

    async def answers(self, paths):
        """Return the answers to requests that begin a millisecond after one another."""
        asked = [asyncio.create_task(self.get(path)) for path in paths]
        while await self.get("waiting") < len(paths):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
        await self.get("begin")
        return await asyncio.gather(*asked)

    def stop(self):
        self._process.terminate()
        assert self._process.wait(20) is not None


TIMEOUT = 0.5
#: Seconds for which Redis is frozen, the first time; CPU time by which the loop's longest turn may
#: be longer then.
FROZEN, MORE = 3.0, 0.001
#: Seconds for which a call that blocks would stop the loop.
BLOCKED = TIMEOUT * 0.45
#: The machine may be busy: the shortest of so many rounds' longest turns, and calls, are compared.
ROUNDS = 8


@pytest.fixture(params=["asyncio", "uvloop"])
def frozen(request):
    """A Redis, and a server whose calls it may be frozen for."""
    with EmbeddedRedis(config={"appendfsync": "always"}) as own:
        server = Server(request.param, broker_url=own.url, segment_redis_timeout=TIMEOUT)
        try:
            yield own, server
        finally:
            server.stop()


async def answers_and_turn(server, paths):
    """Return the answers of requests, and the loop's longest turn meanwhile, also in CPU time."""
    answers = await server.answers(paths)
    return answers, await server.get("found")


async def turn_with_sleepers(server):
    await server.get("start")
    _, (_, busy) = await answers_and_turn(server, [f"bare?seconds={BLOCKED}"] * 200)
    return busy


async def turn_with_calls(server, redis, round_):
    await server.get("start")
    ends = time.monotonic() + (0 if round_ else FROZEN)
    redis.pause()
    try:
        paths = [f"call?id={round_}-{n}" for n in range(200)]
        answers, (longest, busy) = await answers_and_turn(server, paths)
        await asyncio.sleep(ends - time.monotonic())
    finally:
        redis.resume()
    assert not any(id_ for id_, _ in answers)
    return busy, longest, max(seconds for _, seconds in answers)


def test_200_calls_that_wait_for_a_frozen_redis_end_in_time_and_do_not_stop_the_loop(frozen):
    own, server = frozen
    bare, waiting = [], []

    def are_short():
        busy, longest, seconds = map(min, zip(*waiting, strict=True))
        return busy <= min(bare) + MORE and longest < BLOCKED and seconds < TIMEOUT + 0.5

    async def main():
        while len(bare) < ROUNDS and not (bare and are_short()):
            bare.append(await turn_with_sleepers(server))
            waiting.append(await turn_with_calls(server, own, len(waiting)))

    asyncio.run(main())
    assert are_short(), (bare, waiting)
    client = own.client()
    wait_until(lambda: len(stored(client)) > 1)
    ids = [message["messageId"] for message in stored(client)]
    client.close()
    assert len(ids) == len(set(ids))
