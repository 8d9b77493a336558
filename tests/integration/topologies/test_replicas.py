"""Calls that return once replicas have the message."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from celery_segment import Analytics, BufferUnavailable, track
from celery_segment.operations.moving import rename
from celery_segment.testing import EmbeddedRedis
from chaos.proxy import Proxy
from support import wait_until
from topologies import answers, command


@pytest.fixture
def primary():
    with EmbeddedRedis(appendonly=False, config={"repl-diskless-sync-delay": 0}) as server:
        yield server


@pytest.fixture
def replica(primary):
    config = {"replicaof": f"127.0.0.1 {primary.port}"}
    with EmbeddedRedis(appendonly=False, config=config) as server:
        wait_until(lambda: answers(server.port, "INFO")["master_link_status"] == "up")
        yield server


@pytest.fixture
def app(make_app, primary):
    return make_app(segment_redis_url=primary.url, segment_wait_replicas=1)


def lose_reply(proxy):
    proxy.cut(1)
    wait_until(lambda: proxy._left == 1)


def size(server):
    return command(server.port, "STRLEN", "{segment:default}:open")


def test_a_replica_has_each_message_when_its_call_returns(app, primary, replica):
    for n in range(50):
        track.delay("u", "E")
        assert size(replica) == size(primary) > 150 * n
    with Analytics(app=app).batch():
        for _ in range(50):
            track.delay("u", "E")
    assert size(replica) == size(primary)


def test_without_a_replica_it_is_unknown_whether_the_message_stays(app):
    with pytest.raises(BufferUnavailable, match="0 of 1 replicas") as caught:
        track.delay("u", "E")
    assert caught.value.unknown == 1
    with pytest.raises(BufferUnavailable) as caught, Analytics(app=app).batch():
        for _ in range(3):
            track.delay("u", "E")
    assert (caught.value.stored, caught.value.unknown) == (0, 3)
    assert Analytics(app=app).stats().accepted == 4


def test_calls_on_a_loop_wait_for_it_as_well(app, primary, replica):
    async def main():
        for n in range(20):
            await track.adelay("u", "E")
            assert size(replica) == size(primary) > 150 * n
        replica.pause()
        with pytest.raises(BufferUnavailable, match="0 of 1 replicas") as caught:
            await track.adelay("u", "E")
        replica.resume()
        assert caught.value.unknown == 1

    asyncio.run(main())
    assert Analytics(app=app).stats().accepted == 21


def test_a_frozen_replica_is_waited_for_within_the_timeout(app, replica):
    track.delay("u", "E")
    replica.pause()
    with pytest.raises(BufferUnavailable, match="0 of 1 replicas"):
        track.delay("u", "E")
    replica.resume()
    track.delay("u", "E")
    assert Analytics(app=app).stats().accepted == 3


def test_a_primary_that_is_demoted_meanwhile_has_confirmed_nothing(make_app, primary, replica):
    """Redis ends the wait with an error of its own; ``spill`` has to keep such a call."""
    app = make_app(segment_redis_url=primary.url, segment_wait_replicas=1, segment_redis_timeout=20)
    track.delay("u", "E")
    replica.pause()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(app.tasks["segment.track"].delay, "u", "E")
        wait_until(lambda: command(primary.port, "INFO", "clients")["blocked_clients"])
        command(primary.port, "REPLICAOF", "127.0.0.1", replica.port)
        with pytest.raises(BufferUnavailable, match="0 of 1 replicas") as caught:
            call.result(10)
    assert caught.value.unknown == 1
    replica.resume()


def test_an_interrupted_call_is_confirmed_as_well(make_app, primary, replica):
    """The reply is lost, the message stored: it is asked for, and then replicas are."""
    with Proxy(primary.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        app = make_app(segment_redis_url=url, segment_wait_replicas=1)
        track.delay("u", "E")
        replica.pause()
        lose_reply(proxy)
        with pytest.raises(BufferUnavailable, match="0 of 1 replicas") as caught:
            track.delay("u", "E")
        assert caught.value.unknown == 1
        replica.resume()
        lose_reply(proxy)
        track.delay("u", "E")
        assert size(replica) == size(primary)
        assert Analytics(app=app).stats().accepted == 3


def test_a_move_deletes_no_batch_that_no_replica_has(make_app, primary, replica):
    old = make_app(segment_redis_url=primary.url, segment_sources={"old": {"write_key": "k"}})
    Analytics("old", app=old).track.delay("u", "E")
    app = make_app(segment_redis_url=primary.url, segment_wait_replicas=1)
    replica.pause()
    with pytest.raises(BufferUnavailable, match="0 of 1 replicas"):
        rename(app, "old", "default").run()
    assert Analytics("old", app=old).stats().waiting == 1
    replica.resume()
    assert rename(app, "old", "default").run() == 0
    assert Analytics(app=app).stats().accepted == 1
    assert Analytics("old", app=old).stats().accepted == 0
