"""A task asks a Redis that does not answer, and callers do not wait for it."""

from __future__ import annotations

import asyncio
import time

import pytest

from celery_segment import BufferUnavailable, track
from celery_segment.runtime import runtime_of
from celery_segment.testing import EmbeddedRedis
from front import Front

#: Seconds within which Redis is found to be back.
SOON = 0.9


@pytest.fixture
def silent(make_app):
    """An application, what makes a call of it find that Redis is silent, and the way to it."""
    with EmbeddedRedis(appendonly=False) as server, Front(server.port) as front:
        app = make_app(segment_redis_url=front.url, segment_redis_timeout=1.0)

        async def fall_silent():
            while not await succeeds():  # noqa: ASYNC110 - the machine may be busy
                await asyncio.sleep(0.01)
            front.fall_silent()
            assert not await succeeds()
            return runtime_of(app).on_loop().topology._pool._own()

        yield fall_silent, front


async def succeeds():
    try:
        return bool((await track.adelay("u", "E")).id)
    except BufferUnavailable:
        return False


def watchers(loop=None):
    return [task for task in asyncio.all_tasks(loop) if task.get_name() == "segment-watch"]


def test_one_asks_while_calls_fail_at_once(run, silent):
    fall_silent, front = silent

    async def main():
        await fall_silent()
        began, accepted, asked = time.monotonic(), front.accepted, 0
        while time.monotonic() < began + 0.9:
            with pytest.raises(BufferUnavailable) as caught:
                await track.adelay("u", "E")
            asked += "was not asked" not in str(caught.value)
            assert len(watchers()) == 1
            await asyncio.sleep(0.002)
        assert asked <= 1, "one caller a second tries as well"
        assert 2 <= front.accepted - accepted <= 5

    run(main)


def test_the_next_call_after_it_has_heard_redis_succeeds(run, silent):
    fall_silent, front = silent

    async def main():
        seconds = []
        # The machine may be busy: the shortest of some is compared.
        while len(seconds) < 2 or (len(seconds) < 5 and min(seconds) >= SOON):
            own = await fall_silent()
            front.be_heard()
            began = time.monotonic()
            while own.is_resting:  # nobody calls
                await asyncio.sleep(0.01)
                assert time.monotonic() - began < 20
            seconds.append(time.monotonic() - began)
            assert all(await asyncio.gather(*[succeeds() for _ in range(8)]))
            assert not watchers()
        assert min(seconds) < SOON

    run(main)


def test_it_ends_with_its_loop(silent):
    fall_silent, _ = silent
    loop = asyncio.new_event_loop()
    loop.run_until_complete(fall_silent())
    assert watchers(loop)
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert not asyncio.all_tasks(loop)
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
