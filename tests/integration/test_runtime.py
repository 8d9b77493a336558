"""One runtime per application: what several threads, proxies and forks get of it."""

from __future__ import annotations

import os
import threading

import pytest
from celery import current_app

from celery_segment import Analytics, track
from celery_segment.buffer import Buffer
from celery_segment.producer import Fallback
from celery_segment.runtime import runtime_of
from support import at_once, drops, new_app, wait_until

THREADS = 8


@pytest.mark.parametrize("on_unavailable", ["raise", "drop", "spill"])
def test_threads_that_come_at_once_get_one_of_each(make_app, tmp_path, on_unavailable):
    conf = {"segment_on_unavailable": on_unavailable, "segment_spill_path": str(tmp_path / "spill")}
    for _ in range(20):
        app = make_app(**conf)
        made = at_once(
            THREADS,
            lambda app=app: (
                runtime_of(app),
                runtime_of(app).settings,
                runtime_of(app).producer("default"),
                runtime_of(app).buffer("default"),
            ),
        )
        assert len({tuple(map(id, each)) for each in made}) == 1
        (store,) = {each[2]._store for each in made}
        assert isinstance(store, Buffer if on_unavailable == "raise" else Fallback)
        assert {id(each[3]._server) for each in made} == {id(runtime_of(app).topology.server(""))}


def test_calls_of_threads_that_come_at_once_are_all_stored(make_app):
    make_app()
    ids = at_once(THREADS, lambda: track.delay("u", "E").id)
    assert len(set(ids)) == THREADS
    assert Analytics().stats().buffered.messages == THREADS


def test_a_proxy_has_the_runtime_of_its_application(app):
    assert runtime_of(current_app) is runtime_of(app)
    assert Analytics(app=current_app).app is app
    assert Analytics(app=current_app).stats().accepted == 0


def test_applications_have_runtimes_of_their_own(make_app):
    one, other = make_app(), make_app()
    assert runtime_of(one) is not runtime_of(other)
    assert runtime_of(one).buffer("default") is not runtime_of(other).buffer("default")


def test_an_application_that_is_gone_takes_its_runtime_along(redis_server):
    import gc
    import weakref

    app = new_app({"broker_url": redis_server.url})
    runtime_of(app).buffer("default").append(b"{}")
    connection = runtime_of(app).topology.server("")._connections.idle[0]
    gone = weakref.ref(runtime_of(app))
    app.close()
    del app
    gc.collect()
    assert gone() is None
    assert connection._sock.fileno() == -1, "its connections are open"


def test_a_lock_that_a_thread_held_during_a_fork_is_free_in_the_child(app):
    runtime, read, write = runtime_of(app), *os.pipe()
    held, release = threading.Event(), threading.Event()

    def hold():
        with runtime._lock:
            held.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        runtime.producer("default")
        os.write(write, b"made")
        os._exit(0)
    release.set()
    thread.join()
    os.set_blocking(read, False)
    try:
        assert wait_until(lambda: os.waitpid(child, os.WNOHANG)[0] and os.read(read, 4)) == b"made"
    finally:
        os.close(read)
        os.close(write)


def test_drops_are_reported_once_whichever_threads_report_them(make_app, redis):
    app = make_app(segment_on_full="drop")
    track.delay("u", "E")  # the script is loaded
    redis.config_set("maxmemory", 1)
    at_once(4, lambda: [track.delay("u", "E") for _ in range(25)])
    redis.config_set("maxmemory", 0)
    at_once(4, lambda: track.delay("u", "E"))
    assert Analytics(app=app).stats().dropped == drops(full=100)
    assert Analytics(app=app).stats().accepted == 5


def test_drops_that_cannot_be_reported_fail_no_call_and_are_reported_later(make_app, redis):
    app = make_app(segment_on_full="drop")
    track.delay("u", "E")
    redis.config_set("maxmemory", 1)
    for _ in range(3):
        track.delay("u", "dropped")
    redis.config_set("maxmemory", 0)
    redis.set("{segment:default}:stats", "no hash")
    track.delay("u", "E")
    redis.delete("{segment:default}:stats")
    track.delay("u", "E")
    assert Analytics(app=app).stats().dropped == drops(full=3)
    assert Analytics(app=app).stats().accepted == 3
