"""The calls that are awaited: what they store, and when."""

from __future__ import annotations

import asyncio
import threading

import pytest

from celery_segment import Analytics, BufferFull, ValidationError, track
from celery_segment.testing import EmbeddedRedis
from celery_segment.visitor import acting
from support import drops, in_child, stored, wait_until


def events(redis, source="default"):
    return [message["event"] for message in stored(redis, source)]


def clients(redis):
    return int(redis.info("clients")["connected_clients"])


@pytest.mark.usefixtures("app")
def test_a_message_is_stored_when_its_call_returns(run, redis):
    async def main():
        result = await track.adelay("u", "E", {"price": 5})
        (message,) = stored(redis)
        assert (message["messageId"], message["event"]) == (result.id, "E")
        assert (await Analytics().track.adelay("u", "F")).id == stored(redis)[1]["messageId"]

        with pytest.raises(TypeError, match="its source is fixed"):
            await Analytics().track.adelay("u", "E", source="b")

    run(main)


@pytest.mark.usefixtures("app")
def test_many_at_once_are_each_stored_once(run, redis):
    async def main():
        return await asyncio.gather(*[track.adelay("u", "E") for _ in range(200)])

    results = run(main)
    assert {m["messageId"] for m in stored(redis)} == {result.id for result in results}
    assert len(stored(redis)) == 200


@pytest.mark.usefixtures("app")
def test_a_call_has_its_callers_visitor(run, redis):
    class Visitor:
        user_id, anonymous_id, context = "v", None, {"ip": "192.0.2.1"}

        def new_anonymous_id(self):
            return None

    async def main():
        with acting(Visitor()):
            await track.adelay(event="E")

    run(main)
    assert stored(redis)[0]["userId"] == "v"


@pytest.mark.usefixtures("app")
def test_a_batch_is_stored_at_its_end(run, redis):
    async def main():
        async with Analytics().abatch():
            await track.adelay("u", "A")
            track.delay("u", "B")
            assert stored(redis) == []
        assert events(redis) == ["A", "B"]
        with Analytics().batch():
            await track.adelay("u", "C")
            assert events(redis) == ["A", "B"]
        assert events(redis) == ["A", "B", "C"]
        with pytest.raises(ZeroDivisionError):
            async with Analytics().abatch():
                await track.adelay("u", "D")
                raise ZeroDivisionError
        assert events(redis)[-1] == "D"
        async with Analytics().abatch():
            for _ in range(1_200):
                await track.adelay("u", "E")

    run(main)
    assert Analytics().stats().accepted == 1_204


@pytest.mark.parametrize("source", [{}, {"ordered": True, "shards": 3}], ids=["plain", "ordered"])
def test_the_loop_goes_on_while_a_long_batch_is_stored(make_app, run, source):
    make_app(segment_sources={"default": source})
    turns = []

    async def count():
        while True:
            turns.append(1)
            await asyncio.sleep(0)

    async def main():
        async with Analytics().abatch():
            for n in range(3_000):
                await track.adelay(f"u{n}", "E", {"x": "y" * 300})
            counting = asyncio.create_task(count())
        counting.cancel()

    run(main)
    assert len(turns) > 10
    assert Analytics().stats().accepted == 3_000


def test_a_flush_waits_without_holding_the_loop(make_app, run):
    make_app(segment_sources={"b": {"enabled": False}})
    turns = []

    async def count():
        while True:
            turns.append(1)
            await asyncio.sleep(0.001)

    async def main():
        await track.adelay("u", "E")
        counting = asyncio.create_task(count())
        assert await Analytics().aflush(0.3) == 1
        counting.cancel()
        assert await Analytics("b").aflush() == 0

    run(main)
    assert len(turns) > 20


def test_a_flush_ends_when_all_is_delivered(make_app, run, server):
    app = make_app(segment_write_key="k" * 20)

    async def main():
        await track.adelay("u", "E")
        flushing = asyncio.create_task(Analytics().aflush())
        await asyncio.to_thread(Analytics(app=app).deliver)
        assert await flushing == 0

    run(main)
    assert [m["event"] for m in server.messages] == ["E"]


@pytest.mark.usefixtures("app")
def test_a_call_that_is_not_valid_raises(run, redis):
    async def main():
        with pytest.raises(ValidationError):
            await track.adelay("u")
        with pytest.raises(TypeError):
            await track.adelay("u", "E", {}, wrong=1)
        await track.adelay("u", "E")

    run(main)
    assert events(redis) == ["E"]


def test_or_is_dropped_and_logged_with_its_line(make_app, caplog):
    make_app(segment_on_invalid="log")

    async def main():
        assert (await track.adelay("u")).state == "IGNORED"

    asyncio.run(main())
    assert Analytics().stats().dropped == drops(invalid=1)
    line = main.__code__.co_firstlineno + 1
    assert f"track at {__file__}:{line} is dropped" in caplog.text


def test_tasks_that_run_at_once_deliver_at_once(make_app, run, server):
    make_app(task_always_eager=True, segment_write_key="k" * 20)

    async def main():
        await track.adelay("u", "E")
        assert [m["event"] for m in server.messages] == ["E"]

    run(main)


def test_a_test_keeps_the_calls(make_app, run, redis, segment_outbox):
    make_app()

    async def main():
        await track.adelay("u", "E")
        async with Analytics().abatch():
            await track.adelay("u", "F")

    run(main)
    assert [m["event"] for m in segment_outbox] == ["E", "F"]
    assert stored(redis) == []


def test_a_source_that_is_off_stores_nothing(make_app, run, redis):
    make_app(segment_enabled=False)
    run(track.adelay, "u", "E")
    assert stored(redis) == []


def test_a_full_buffer(make_app, run):
    make_app(segment_max_buffer_bytes=100_000)

    async def main():
        with pytest.raises(BufferFull, match="segment_max_buffer_bytes"):
            for _ in range(1000):
                await track.adelay("u", "E", {"x": "y" * 1000})

    run(main)


def test_shards_are_stored_in_turn_or_by_user(make_app, run):
    app = make_app(
        segment_sources={"turns": {"shards": 3}, "users": {"shards": 3, "ordered": True}}
    )

    async def main():
        for name in ("turns", "users"):
            source = Analytics(name, app=app)
            for n in range(30):
                await source.track.adelay(f"u{n}", "E")
            async with source.abatch():
                for n in range(30):
                    await source.track.adelay(f"u{n}", "F")
            assert source.stats().accepted == 60

    run(main)


class TestLoops:
    @pytest.mark.usefixtures("app")
    def test_a_loops_connections_end_with_it(self, run, redis):
        before = clients(redis)

        async def main():
            await asyncio.gather(*[track.adelay("u", "E") for _ in range(20)])
            assert clients(redis) > 15

        for _ in range(3):
            run(main)
            wait_until(lambda: clients(redis) <= before)
        assert len(stored(redis)) == 60

    @pytest.mark.usefixtures("app")
    def test_each_threads_loop_has_its_own(self, redis):
        async def main():
            for _ in range(50):
                await track.adelay("u", "E")

        threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(stored(redis)) == 200

    @pytest.mark.usefixtures("app")
    def test_a_child_has_its_own(self, redis):
        async def main():
            await track.adelay("u", "E")

        def in_a_child():
            asyncio.run(main())
            return True

        async def fork():
            await main()
            # As a server's process does that forks workers, each with a loop of its own.
            assert await asyncio.to_thread(in_child, in_a_child)
            await main()

        asyncio.run(fork())
        assert len(stored(redis)) == 3


def test_a_request_of_two_applications_stores_both(make_app, run, redis):
    from celery_segment.contrib.asgi import SegmentMiddleware

    with EmbeddedRedis(appendonly=False) as own:
        other = make_app(segment_redis_url=own.url)
        make_app(segment_batch_requests=True)

        async def app(*_):
            await track.adelay("u", "mine")
            await Analytics(app=other).track.adelay("u", "other's")
            assert stored(redis) == []

        run(SegmentMiddleware(app), {"type": "http", "path": "/", "headers": []}, None, None)
        assert events(redis) == ["mine"]
        client = own.client()
        assert events(client) == ["other's"]
        client.close()
