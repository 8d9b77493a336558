"""What the floors share: a real Redis, a real endpoint, real applications and workers."""

from __future__ import annotations

import gc

import pytest
from kombu import pools

from celery_segment.testing import EmbeddedRedis, SegmentServer
from support import Workers, new_app

#: Their assertions show what was compared, as those of the tests do.
pytest.register_assert_rewrite(
    *("batches", "bufferrecount", "checks", "commands"),
    *("composed", "manifests", "records", "windows"),
)


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Collect the tests without the garbage collector, and keep it from what was collected.

    Thousands of tests are hundreds of thousands of objects. To walk them takes half of the time of
    collecting, and then half a second whenever a test calls the collector.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def redis_server():
    # It does not rewrite its file: that takes memory, at a time that no test chooses.
    with EmbeddedRedis(config={"auto-aof-rewrite-percentage": 0}) as server:
        yield server


@pytest.fixture
def redis(redis_server):
    """A client of an empty Redis."""
    client = redis_server.client()
    client.config_set("maxmemory", 0)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def server():
    with SegmentServer() as server:
        yield server


@pytest.fixture
def make_app(redis, redis_server, server):  # noqa: ARG001 - an empty Redis
    """Make Celery applications on the test's Redis and endpoint, current until it ends."""
    made = []

    def make(**conf):
        app = new_app({"broker_url": redis_server.url, "segment_host": server.url, **conf})
        app.set_current()
        app.set_default()
        made.append(app)
        return app

    yield make
    for app in made:
        _close(app)


def _close(app):
    """Close what Celery and kombu leave to the garbage collector."""
    if app._backend is not None and "client" in vars(app._backend):
        app._backend.client.connection_pool.disconnect()
    app.close()


@pytest.fixture(autouse=True)
def _no_sockets_left():
    yield
    pools.reset()


@pytest.fixture
def app(make_app):
    return make_app()


@pytest.fixture
def workers(tmp_path):
    """Start real worker processes; all are killed at the end."""
    with Workers(tmp_path) as workers:
        yield workers
