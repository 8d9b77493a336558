"""The buffer in a primary that Sentinels watch."""

from __future__ import annotations

import asyncio
import time

import pytest

from celery_segment import Analytics, BufferUnavailable, ConfigurationError, SegmentError, track
from celery_segment.runtime import runtime_of
from support import at_once, buffer_of, free_port, in_child, wait_until
from topologies import NAME, command


@pytest.fixture
def app(make_app, sentinels):
    command(sentinels.primary.port, "FLUSHALL")
    return make_app(segment_redis_url=sentinels.url)


def accepted(app):
    return Analytics(app=app).stats().accepted


def test_calls_and_the_workers_transitions_go_to_the_primary(app, sentinels):
    track.delay("u", "E")
    buffer = buffer_of(app)
    assert buffer.due(1.0)
    (batch,) = buffer.claim(1)
    assert buffer.begin(batch.id, "token").count == 1
    assert int(command(sentinels.primary.port, "EXISTS", "{segment:default}:state")) == 1


def test_each_thread_finds_the_new_primary_at_its_first_call(app, sentinels):
    at_once(8, lambda: track.delay("u", "before"))
    sentinels.fail_over()
    at_once(8, lambda: [track.delay("u", "after") for _ in range(10)])
    assert accepted(app) == 88


def test_calls_on_a_loop_find_it_too(app, sentinels):
    async def main():
        await asyncio.gather(*[track.adelay("u", "before") for _ in range(20)])
        await asyncio.to_thread(sentinels.fail_over)
        await asyncio.gather(*[track.adelay("u", "after") for _ in range(20)])

    asyncio.run(main())
    assert accepted(app) == 40


def test_a_child_finds_it_as_well(app, sentinels):
    track.delay("u", "before")
    sentinels.fail_over()
    assert in_child(lambda: track.delay("u", "after").id)
    track.delay("u", "after")
    assert accepted(app) == 3


def test_a_primary_that_is_killed_is_replaced(app, sentinels):
    """Calls fail until the Sentinels have agreed on another one, and none does then."""
    track.delay("u", "before")
    old = sentinels.primary
    old.kill()
    with pytest.raises(BufferUnavailable, match="unreachable"):
        track.delay("u", "E")
    sentinels.replace(old)
    began = time.monotonic()
    wait_until(lambda: _succeeds(app))
    assert time.monotonic() - began < 1.0
    assert all(_succeeds(app) for _ in range(20))
    old.start()
    sentinels.demote(old)


def test_one_that_is_frozen_costs_one_wait_and_is_replaced(app, sentinels):
    track.delay("u", "before")
    old = sentinels.primary
    old.pause()
    began = time.monotonic()
    assert not any(_succeeds(app) for _ in range(10))
    assert time.monotonic() - began < 2.0
    sentinels.replace(old)
    began = time.monotonic()
    wait_until(lambda: _succeeds(app))
    assert time.monotonic() - began < 1.0
    old.resume()
    sentinels.demote(old)


def test_sentinels_that_are_away_are_passed_over(make_app, sentinels):
    url = f"sentinel://127.0.0.1:{free_port()};{sentinels.url}"
    app = make_app(segment_redis_url=url)
    before = accepted(app)
    track.delay("u", "E")
    assert accepted(app) == before + 1


def test_no_sentinel_is_a_redis_that_is_unavailable(make_app):
    app = make_app(
        segment_redis_url=f"sentinel://127.0.0.1:{free_port()}?master_name={NAME}",
        segment_on_unavailable="raise",
    )
    for _ in range(2):
        with pytest.raises(BufferUnavailable, match="no Sentinel says where 'shop' is"):
            _track(app)
    make_app(
        segment_redis_url=f"sentinel://127.0.0.1:1/0?master_name={NAME}",
        segment_on_unavailable="drop",
    ).tasks["segment.track"].delay("u", "E")


def test_a_name_that_they_do_not_watch(make_app, sentinels):
    app = make_app(segment_redis_url=sentinels.url.replace(NAME, "other"))
    with pytest.raises(BufferUnavailable, match="watches nothing of that name") as caught:
        _track(app)
    assert "master_name" in caught.value.hint


def test_without_a_name(make_app, sentinels):
    app = make_app(segment_redis_url=sentinels.url.partition("?")[0])
    with pytest.raises(ConfigurationError, match="without the name") as caught:
        _track(app)
    assert "master_name" in caught.value.hint


def test_as_celery_is_told(make_app, sentinels):
    """The broker's URL and options are those of Celery's documentation."""
    urls = [f"sentinel://127.0.0.1:{port}/0" for port in sentinels.ports]
    app = make_app(
        broker_url=";".join(urls),
        broker_transport_options={"master_name": NAME, "sentinel_kwargs": {"socket_timeout": 3}},
    )
    with app.connection_for_write() as connection:
        assert connection.default_channel.client.ping()
    before = accepted(app)
    track.delay("u", "E")
    assert accepted(app) == before + 1
    assert runtime_of(app).settings.shares_broker


def _track(app):
    app.set_current()
    return app.tasks["segment.track"].delay("u", "E")


def _succeeds(app):
    try:
        return bool(_track(app))
    except SegmentError:
        return False
