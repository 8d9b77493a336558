"""Redis away, frozen, or its replies lost; and callers that are cancelled."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from celery_segment import Analytics, BufferUnavailable, track
from celery_segment.runtime import runtime_of
from celery_segment.testing import EmbeddedRedis
from chaos.proxy import Proxy
from front import Front
from support import drops, stored, wait_until


@pytest.fixture
def own():
    """A Redis that the test may stop."""
    with EmbeddedRedis(config={"appendfsync": "always"}) as redis:
        yield redis


@pytest.fixture
def messages(own):
    """Return the ids of what is stored in that Redis."""
    client = own.client()
    yield lambda: [message["messageId"] for message in stored(client)]
    client.close()


async def until(condition):
    """Wait on the loop for a condition."""
    while not condition():  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.01)


async def outcome(call):
    """Return a call's id, or None where it failed; and the seconds that it took."""
    began = time.monotonic()
    try:
        result = await call
    except BufferUnavailable:
        return None, time.monotonic() - began
    return result.id, time.monotonic() - began


class TestFrozen:
    def test_each_call_ends_in_time_and_nothing_is_doubled(self, make_app, run, own, messages):
        make_app(segment_redis_url=own.url, segment_redis_timeout=0.5)

        async def main():
            await track.adelay("u", "before")
            own.pause()
            calls = [track.adelay("u", "E", message_id=f"m{n}") for n in range(200)]
            found = await asyncio.gather(*map(outcome, calls))
            # The one that tries while the others fail at once.
            found.append(await outcome(track.adelay("u", "E", message_id="late")))
            own.resume()
            await until(lambda: len(set(messages())) > 1)
            await asyncio.sleep(0.05)  # and is heard
            await track.adelay("u", "after")
            return found

        found = run(main)
        assert not any(id_ for id_, _ in found)
        # The machine may be busy; a call that waited for another would take twice as long.
        assert max(seconds for _, seconds in found) < 0.9
        ids = messages()
        assert len(ids) == len(set(ids))

    def test_the_loop_goes_on(self, make_app, run, own):
        make_app(segment_redis_url=own.url, segment_redis_timeout=0.5)
        gaps = []

        async def watch():
            last = time.monotonic()
            while True:
                await asyncio.sleep(0)
                gaps.append(time.monotonic() - last)
                last += gaps[-1]

        async def main():
            await track.adelay("u", "before")
            own.pause()
            watching = asyncio.create_task(watch())
            await outcome(track.adelay("u", "E"))
            watching.cancel()
            own.resume()

        run(main)
        # A caller that blocks would stop it for 200 ms and more.
        assert sum(gaps) > 0.2
        assert max(gaps) < 0.15

    def test_those_in_line_for_a_connection_fail_with_those_before_them(self, make_app, run, own):
        with Front(own.port) as front:
            make_app(
                segment_redis_url=front.url,
                segment_redis_timeout=0.5,
                segment_redis_max_connections=2,
            )

            async def main():
                await track.adelay("u", "before")
                front.fall_silent()
                calls = [asyncio.create_task(track.adelay("u", "E")) for _ in range(2)]
                await asyncio.sleep(0.1)
                later = await asyncio.gather(
                    *[track.adelay("u", "E") for _ in range(10)], return_exceptions=True
                )
                await asyncio.gather(*calls, return_exceptions=True)
                return [str(error) for error in later]

            asked = [text for text in run(main) if "was not asked" not in text]
        # One takes the place of the connection whose silence may be its own.
        assert len(asked) <= 1, asked


class TestAway:
    def test_drops_are_counted(self, make_app, run, own):
        app = make_app(segment_redis_url=own.url, segment_on_unavailable="drop")

        async def main():
            await track.adelay("u", "before")
            own.kill()
            for _ in range(5):
                await track.adelay("u", "E")
            own.restart()
            producer = runtime_of(app).on_loop().producer("default")
            await until(lambda: producer._store._rests_until < time.monotonic())
            await track.adelay("u", "after")

        run(main)
        stats = Analytics(app=app).stats()
        assert stats.accepted == 2
        assert sum(stats.dropped.values()) == sum(drops(unavailable=4, unknown=1).values())

    @pytest.mark.parametrize("source", [{}, {"ordered": True}], ids=["plain", "ordered"])
    def test_what_is_spilled_comes_back(self, make_app, run, own, tmp_path, source):
        path = tmp_path / "spill.db"
        app = make_app(
            segment_redis_url=own.url,
            segment_on_unavailable="spill",
            segment_spill_path=str(path),
            segment_sources={"default": source},
        )

        async def main():
            own.kill()
            for n in range(10):
                await track.adelay("u", "E", {"n": n})
            assert path.exists()
            own.restart()
            producer = runtime_of(app).on_loop().producer("default")
            while producer._store.has_spilled or producer._store._spill.waiting("default"):
                await asyncio.sleep(0.05)
                await track.adelay("u", "E", {"n": 10})

        run(main)
        client = own.client()
        numbers = [message["properties"]["n"] for message in stored(client)]
        client.close()
        assert [n for n in numbers if n < 10] == list(range(10))
        if source:
            assert numbers == sorted(numbers)


def test_what_is_stored_though_its_reply_is_lost_is_stored_once(make_app, run, redis_server, redis):
    with Proxy(redis_server.port) as proxy:
        make_app(segment_redis_url=f"redis://127.0.0.1:{proxy.port}/0")

        async def main():
            await track.adelay("u", "before")
            for _ in range(5):
                proxy.cut(1)
                await until(lambda: proxy._left == 1)
                await track.adelay("u", "E")

        run(main)
        assert proxy.lost == 5
        assert len(stored(redis)) == 6


class TestCancelled:
    @pytest.mark.parametrize("seed", range(3))
    def test_it_is_stored_once_or_not_and_the_connections_serve_on(
        self, make_app, run, redis, seed
    ):
        app = make_app(segment_redis_max_connections=4)
        chance = random.Random(seed)

        async def main():
            finished = set()
            for _ in range(20):
                tasks = [
                    asyncio.create_task(
                        track.adelay("u", "E", message_id=f"{seed}-{chance.random()}")
                    )
                    for _ in range(12)
                ]
                for task in chance.sample(tasks, 6):
                    asyncio.get_running_loop().call_later(chance.random() / 500, task.cancel)
                found = await asyncio.gather(*tasks, return_exceptions=True)
                assert all(isinstance(each, asyncio.CancelledError) or each.id for each in found), (
                    found
                )
                finished |= {each.id for each in found if not isinstance(each, BaseException)}
            own = runtime_of(app).on_loop().topology._pool._own()
            assert len(own.idle) + len(own._room) == 4
            assert not own.waiters
            return finished

        finished = run(main)
        ids = [message["messageId"] for message in stored(redis)]
        assert len(ids) == len(set(ids))
        assert finished <= set(ids)

    def test_one_that_waits_for_a_silent_server_ends_at_once(self, make_app, run, own, messages):
        make_app(segment_redis_url=own.url, segment_redis_timeout=5)

        async def main():
            await track.adelay("u", "before")
            own.pause()
            task = asyncio.create_task(track.adelay("u", "E"))
            await asyncio.sleep(0.05)
            began = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - began < 1
            own.resume()
            await track.adelay("u", "after")

        run(main)
        wait_until(lambda: len(messages()) in (2, 3))
