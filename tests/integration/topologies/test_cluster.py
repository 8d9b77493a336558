"""The buffer in a Redis Cluster."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress

import pytest

from celery_segment import Analytics, BufferUnavailable, SegmentError, track
from celery_segment.buffer import stored_sources
from celery_segment.buffer.keys import prefix_of
from celery_segment.runtime import runtime_of
from celery_segment.worker.ticker import Ticker
from support import at_once, buffer_of, wait_until
from topologies import answers, command

#: Names of sources of which each server has some.
NAMES = [f"s{n}" for n in range(6)]
SOURCES = {name: {"write_key": "k" * 20} for name in NAMES}


def tag(name):
    return f"{{segment:{name}}}"


@pytest.fixture
def app(make_app, cluster):
    for port in cluster.servers:
        answers(port, "FLUSHALL")
    return make_app(segment_redis_url=cluster.url, segment_sources=SOURCES)


def accepted(app, name="default"):
    return Analytics(app=app, source=name).stats().accepted


def test_each_source_is_stored_where_its_slot_is(app, cluster):
    homes = {name: cluster.primary_of(tag(name)).port for name in NAMES}
    assert len({*homes.values()}) == 3
    for name in NAMES:
        Analytics(app=app, source=name).track.delay("u", "E")
    for name, port in homes.items():
        assert command(port, "EXISTS", f"{tag(name)}:open") == 1
        assert accepted(app, name) == 1


def test_one_tick_asks_all_servers(app):
    for name in NAMES:
        Analytics(app=app, source=name).track.delay("u", "E")
    runtime = runtime_of(app)
    ticker = Ticker(runtime.settings.enabled, runtime.connect(1.0), 0.25, 1.0)
    assert sorted(ticker.tick()) == NAMES


def test_sources_are_found_on_all_servers(app):
    for name in NAMES:
        Analytics(app=app, source=name).track.delay("u", "E")
    found = stored_sources(runtime_of(app).topology, "", 2.0)
    assert {*NAMES} <= found.names
    assert found.is_complete


def test_a_slot_that_moves_under_calls_loses_and_doubles_nothing(app, cluster):
    """While it moves, the buffer is unavailable; then the first call of each thread succeeds."""
    done, stored = threading.Event(), []

    def call():
        while not done.is_set():
            with suppress(BufferUnavailable):
                stored.append(track.delay("u", "E").id)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(stored) > 50)
    home = cluster.primary_of(tag("default"))
    other = next(cluster.primary_of(tag(n)) for n in NAMES if cluster.primary_of(tag(n)) != home)
    cluster.move(tag("default"), other)
    before = len(stored)
    wait_until(lambda: len(stored) > before + 50)
    done.set()
    for thread in threads:
        thread.join()
    at_once(8, lambda: stored.append(track.delay("u", "E").id))
    assert accepted(app) == len(stored)
    assert command(other.port, "EXISTS", f"{tag('default')}:state") == 1


def test_calls_on_a_loop_follow_a_slot_that_moves(app, cluster):
    stored = []

    async def main():
        done = asyncio.Event()

        async def call():
            while not done.is_set():
                with suppress(BufferUnavailable):
                    stored.append((await track.adelay("u", "E")).id)

        calling = [asyncio.create_task(call()) for _ in range(8)]
        home, key = cluster.primary_of(tag("default")), tag("default")
        other = next(found for n in NAMES if (found := cluster.primary_of(tag(n))) != home)
        await asyncio.to_thread(cluster.move, key, other)
        before = len(stored)
        await asyncio.to_thread(wait_until, lambda: len(stored) > before + 50)
        done.set()
        await asyncio.gather(*calling)
        for name in NAMES:
            await Analytics(app=app, source=name).track.adelay("u", "E")

    asyncio.run(main())
    assert accepted(app) == len(stored)
    assert [accepted(app, name) for name in NAMES] == [1] * len(NAMES)


def test_a_primary_that_is_killed_is_replaced_and_the_others_go_on(app, cluster):
    home = cluster.primary_of(tag("default"))
    near = next(n for n in NAMES if cluster.primary_of(tag(n)) == home)
    far = next(n for n in NAMES if cluster.primary_of(tag(n)) != home)
    for name in (near, far):
        Analytics(app=app, source=name).track.delay("u", "E")
    home.kill()
    with pytest.raises(BufferUnavailable):
        Analytics(app=app, source=near).track.delay("u", "E")
    Analytics(app=app, source=far).track.delay("u", "E")
    ticker = Ticker(
        runtime_of(app).settings.enabled, runtime_of(app).connect(1.0, rest=1.0), 0.25, 1.0
    )
    assert ticker.tick() == [far]
    cluster.replace(home)
    began = time.monotonic()
    wait_until(lambda: _succeeds(app, near))
    assert time.monotonic() - began < 1.0
    assert all(_succeeds(app, near) for _ in range(20))
    home.start()
    wait_until(lambda: command(home.port, "INFO", "replication")["role"] == "slave")


def test_calls_pass_over_a_shard_whose_primary_is_away(make_app, app, cluster):
    app = make_app(segment_redis_url=cluster.url, segment_shards=4)
    shards = runtime_of(app).shards("default")
    homes = [cluster.primary_of(prefix_of(shard.source)) for shard in shards]
    assert len({home.port for home in homes}) == 3
    away = homes[0]
    away.kill()
    for _ in range(20):
        track.delay("u", "E")
    near = [shard for shard, home in zip(shards, homes, strict=True) if home is not away]
    assert sum(shard.admin.snapshot().accepted for shard in near) == 20
    cluster.replace(away)
    away.start()
    wait_until(lambda: command(away.port, "INFO", "replication")["role"] == "slave")
    wait_until(lambda: track.delay("u", "E") and _accepted(shards[0]))


def test_a_frozen_primary_holds_up_no_other(app, cluster):
    home = cluster.primary_of(tag("s0"))
    far = next(n for n in NAMES if cluster.primary_of(tag(n)) != home)
    for name in ("s0", far):
        Analytics(app=app, source=name).track.delay("u", "E")
    runtime = runtime_of(app)
    ticker = Ticker(runtime.settings.enabled, runtime.connect(1.0, rest=2.0), 0.25, 1.0)
    home.pause()
    try:
        assert ticker.tick() == [far]
        began = time.monotonic()
        ticker.tick()
        assert time.monotonic() - began < 0.1
        Analytics(app=app, source=far).track.delay("u", "E")
    finally:
        home.resume()
    wait_until(lambda: _succeeds(app, "s0"))


def test_while_a_shards_primary_is_frozen_next_to_nothing_is_spilled(
    make_app, app, cluster, tmp_path
):
    app = make_app(
        segment_redis_url=cluster.url,
        segment_shards=4,
        segment_on_unavailable="spill",
        segment_spill_path=str(tmp_path / "spill.db"),
        segment_redis_timeout=0.2,
    )
    shards = runtime_of(app).shards("default")
    away = cluster.primary_of(prefix_of(shards[0].source))
    away.pause()
    try:
        for _ in range(200):
            track.delay("u", "E")
    finally:
        away.resume()
    assert runtime_of(app).spill.waiting("default") <= 3
    wait_until(lambda: sum(map(_accepted, shards)) >= 200)


def test_one_server_of_it_as_a_single_redis_says_how_to_write_the_url(make_app, app, cluster):
    home = cluster.primary_of(tag("default"))
    other = next(s for s in cluster.servers.values() if s is not home)
    app = make_app(segment_redis_url=other.url)
    with pytest.raises(BufferUnavailable) as caught:
        app.tasks["segment.track"].delay("u", "E")
    assert "redis+cluster://" in caught.value.hint


def test_renaming_a_source_moves_it_to_another_server(app, cluster):
    from celery_segment.operations.moving import rename

    one = NAMES[0]
    two = next(n for n in NAMES if cluster.primary_of(tag(n)) != cluster.primary_of(tag(one)))
    for _ in range(5):
        Analytics(app=app, source=one).track.delay("u", "E")
    move = rename(app, one, two)
    assert move.run(timeout=5) == 0
    assert accepted(app, two) == 5
    assert buffer_of(app, one).admin.snapshot().waiting == 0


def _accepted(shard):
    try:
        return shard.admin.snapshot().accepted
    except BufferUnavailable:
        return 0


def _succeeds(app, name):
    try:
        return bool(Analytics(app=app, source=name).track.delay("u", "E"))
    except SegmentError:
        return False


def test_a_slot_without_a_server_holds_up_no_other(app, cluster):
    home = cluster.primary_of(tag("s0"))
    far = next(n for n in NAMES if cluster.primary_of(tag(n)) != home)
    Analytics(app=app, source=far).track.delay("u", "E")
    slot = command(home.port, "CLUSTER", "KEYSLOT", tag("s0"))
    runtime = runtime_of(app)
    for port in cluster.servers:
        answers(port, "CLUSTER", "DELSLOTS", slot)
    try:
        ticker = Ticker(runtime.settings.enabled, runtime.connect(1.0), 0.25, 1.0)
        assert ticker.tick() == [far]
    finally:
        command(home.port, "CLUSTER", "ADDSLOTS", slot)
    wait_until(lambda: _succeeds(app, "s0"))
