"""An ASGI application, in a process of its own, that says how long its loop stood still.

Its settings are in the environment variable ``SEGMENT_TEST_CONF``, as JSON.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import time

from celery import Celery
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from celery_segment import BufferUnavailable, track

celery = Celery("shop", set_as_current=True)
celery.conf.update(json.loads(os.environ["SEGMENT_TEST_CONF"]))
celery.set_default()


class Gaps:
    """The longest time between two turns of the loop, by the clock and by its thread's CPU time."""

    def __init__(self):
        self.longest = [0.0, 0.0]

    async def watch(self):
        last = time.perf_counter(), time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter(), time.thread_time()
            self.longest = [max(m, n - b) for m, n, b in zip(self.longest, now, last, strict=True)]
            last = now


gaps = Gaps()
tasks = set()
#: Requests that wait to begin, and the seconds between two that do: as many come at once, they
#: take 10 ms of the loop before any of them calls.
held, GAP = [], 0.001


async def start(_):
    """Make the connections that calls need, and stop watching the loop."""
    for task in tasks:
        task.cancel()
    while (await store(None))[0] is None:
        pass
    gc.collect()
    gc.disable()  # it takes 10 ms and more, of what the process has loaded
    return JSONResponse(os.getpid())


async def waiting(_):
    """Say how many requests wait to begin."""
    return JSONResponse(len(held))


async def begin(_):
    """Watch the loop, and have those that wait begin one after the other."""
    gaps.longest = [0.0, 0.0]
    tasks.add(asyncio.create_task(gaps.watch()))
    while held:
        held.pop().set()
        await asyncio.sleep(GAP)
    return JSONResponse(None)


async def found(_):
    return JSONResponse(gaps.longest)


async def hold():
    held.append(own := asyncio.Event())
    await own.wait()


async def bare(request):
    """Wait for nothing but the time that a call waits for a Redis that is frozen."""
    await hold()
    await asyncio.sleep(float(request.query_params["seconds"]))
    return JSONResponse([None, 0])


async def call(request):
    await hold()
    return JSONResponse(await store(request.query_params["id"]))


async def store(id_):
    """Track; return the message's id, None where it failed, and the seconds that it took."""
    began = time.perf_counter()
    try:
        id_ = (await track.adelay("u", "E", message_id=id_)).id
    except BufferUnavailable:
        id_ = None
    return id_, time.perf_counter() - began


app = Starlette(
    routes=[Route(f"/{view.__name__}", view) for view in (start, waiting, begin, found, bare, call)]
)
