"""The library's contestants: a call, a batch of calls, an import, and a bare socket to compare."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from celery import Celery

from benchmarks.events import EVENT, PROPERTIES, USER, percentiles

Round = Callable[[int], Any]


def application(redis_url: str, **conf: Any) -> Any:
    app = Celery("bench", broker=redis_url)
    app.conf.update(imports=["celery_segment"], **conf)
    app.loader.import_default_modules()
    app.set_default()
    return app


def setup(kind: str, redis_url: str, **settings: Any) -> Round:
    app = application(redis_url)
    kinds = {"call": call, "batch": batch, "socket": bare_socket, "file": file}
    return kinds[kind](app, **settings)


def call(_: Any) -> Round:
    from celery_segment import track

    def one() -> None:
        track.delay(USER, EVENT, PROPERTIES)

    one()
    return lambda number: percentiles(one, number)


def batch(_: Any) -> Round:
    from celery_segment import Analytics, track

    def run(number: int) -> dict[str, float]:
        def hundred() -> None:
            with Analytics().batch():
                for _ in range(100):
                    track.delay(USER, EVENT, PROPERTIES)

        return {name: us / 100 for name, us in percentiles(hundred, number // 100).items()}

    return run


def file(app: Any, path: str) -> Round:
    """Import a file of events."""
    from celery_segment.importing import Import

    def run(number: int) -> dict[str, float]:
        began = time.process_time()
        Import(app, [path]).run()
        return {"cpu": time.process_time() - began, "events": number}

    return run


def bare_append(app: Any) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return a function that APPENDs a call's bytes through a socket, and one that deletes them."""
    from celery_segment import messages
    from celery_segment.buffer.scripts import encode_command
    from celery_segment.calls import api
    from celery_segment.runtime import runtime_of

    _, message = api.track.build(USER, EVENT, PROPERTIES)
    command = encode_command("APPEND", "bench:bare", messages.encode(message) + b",")
    url = urlsplit(runtime_of(app).settings.redis_url)
    sock = socket.create_connection((url.hostname, url.port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def one() -> None:
        sock.sendall(command)
        sock.recv(64)

    def clear() -> None:
        sock.sendall(encode_command("DEL", "bench:bare"))
        sock.recv(64)

    return one, clear


def bare_socket(app: Any) -> Round:
    """APPEND the same bytes through a socket and read the reply: the bare round trip."""
    one, clear = bare_append(app)

    def run(number: int) -> dict[str, float]:
        taken = percentiles(one, number)
        clear()
        return taken

    return run
