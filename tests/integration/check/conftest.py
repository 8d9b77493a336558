from __future__ import annotations

import socket

import pytest

from celery_segment.operations import health
from celery_segment.operations.interviews import Answers
from celery_segment.testing import EmbeddedRedis


@pytest.fixture(autouse=True)
def ask_workers(monkeypatch):
    """Spare the tests the second that workers have to answer; give what asks them."""
    ask = health.ask_workers
    monkeypatch.setattr(health, "ask_workers", lambda _: Answers())
    return ask


@pytest.fixture(scope="module")
def own():
    """A Redis of this module's own, whose configuration the tests change."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def own_redis(own):
    """A client of it, in its first state."""
    client = own.client()
    before = client.config_get("*")
    yield client
    changed = client.config_get("*")
    for name in before:
        if changed[name] != before[name]:
            client.config_set(name, before[name])
    client.flushall()
    client.close()


@pytest.fixture
def silent():
    """The port of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]
