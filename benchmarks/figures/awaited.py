"""Measure calls on an event loop, and how long one stands still while Redis is frozen."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from statistics import median
from typing import Any
from urllib.parse import urlsplit

from celery import Celery
from redis.asyncio import Redis

from benchmarks.events import EVENT, PROPERTIES, USER
from benchmarks.figures import Claim, Figure, Row
from celery_segment import BufferUnavailable, messages, track
from celery_segment.buffer.scripts import script
from celery_segment.testing import EmbeddedRedis

OURS, LIBRARY, BARE = "adelay", "redis.asyncio: EVALSHA of append", "asyncio's streams: the same"
FROZEN, SLEEPING = "longest turn: 200 calls, Redis frozen", "longest turn: 200 that sleep"
GOAL, LONGER = 1.5, 1_000.0
#: Callers at a time, each a millisecond after the last; seconds that a call may take.
CALLERS, GAP, TIMEOUT = 200, 0.001, 0.5


def measure(*, quick: bool) -> Figure:
    rounds, calls = (10, 300) if quick else (30, 1_000)
    with EmbeddedRedis(appendonly=False) as redis:
        app = Celery("bench", broker=redis.url, set_as_current=True)
        app.conf.segment_redis_timeout = TIMEOUT
        found = asyncio.run(_round_trips(redis.url, rounds, calls))
        turns = asyncio.run(_turns(redis, max(rounds // 4, 3)))
        app.close()
    rows = [Row(f"{name}, µs", values) for name, values in {**found, **turns}.items()]
    ratios = [a / b for a, b in zip(found[OURS], found[LIBRARY], strict=True)]
    more = min(turns[FROZEN]) - min(turns[SLEEPING])
    claims = [
        Claim("adelay / EVALSHA by redis.asyncio", median(ratios), GOAL),
        Claim("longest turn with calls beyond that without, µs", more, LONGER),
    ]
    note = (
        "A turn of the loop is measured by its thread's CPU time, with the garbage collector off;"
        " the shortest of the rounds' longest turns are compared."
    )
    return Figure("Calls on an event loop", "", rows, claims, [note])


async def _round_trips(url: str, rounds: int, calls: int) -> dict[str, list[float]]:
    client, message = Redis.from_url(url), _message()
    append, key = script("append"), "{segment:bare}"
    command = append.encode_command(key, message)
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)

    async def ours() -> None:
        await track.adelay(USER, EVENT, PROPERTIES)

    async def library() -> None:
        await client.evalsha(append.sha, 1, key, message)  # type: ignore[misc]

    async def bare() -> None:
        writer.write(command)
        await reader.readuntil(b"\r\n")

    await ours()
    contestants = {OURS: ours, LIBRARY: library, BARE: bare}
    found: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            found[name].append(await _mean(call, calls))
    writer.close()
    await writer.wait_closed()
    await client.aclose()
    return found


def _message() -> bytes:
    built = messages.build_message(
        messages.Track, None, user_id=USER, event=EVENT, properties=PROPERTIES
    )
    return messages.encode(built) + b","


async def _mean(call: Callable[[], Awaitable[None]], calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        await call()
    return (time.perf_counter() - began) / calls * 1e6


async def _turns(redis: EmbeddedRedis, rounds: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {SLEEPING: [], FROZEN: []}
    for _ in range(rounds):
        found[SLEEPING].append(await _longest(lambda: asyncio.sleep(TIMEOUT * 0.45)))
        with suppress(BufferUnavailable):
            await track.adelay(USER, EVENT)
        redis.pause()
        found[FROZEN].append(await _longest(_call))
        redis.resume()
        await asyncio.sleep(1.1)  # it is asked again
    return found


async def _call() -> None:
    with suppress(BufferUnavailable):
        await track.adelay(USER, EVENT, PROPERTIES)


async def _longest(caller: Callable[[], Coroutine[Any, Any, None]]) -> float:
    """Return the longest turn of the loop while callers come, in µs."""
    gc.collect()
    gc.disable()
    ends: list[float] = []
    watching = asyncio.create_task(_watch(ends))
    callers = []
    for _ in range(CALLERS):
        callers.append(asyncio.create_task(caller()))
        await asyncio.sleep(GAP)
    await asyncio.gather(*callers)
    watching.cancel()
    gc.enable()
    return max(b - a for a, b in itertools.pairwise(ends)) * 1e6


async def _watch(ends: list[float]) -> None:
    while True:
        ends.append(time.thread_time())
        await asyncio.sleep(0)
