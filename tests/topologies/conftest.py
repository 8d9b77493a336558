"""Servers that not every machine has, with the applications that use them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from kombu import Connection

from celery_segment.testing import EmbeddedRedis
from rabbit import Rabbit
from support import Absent
from topologies import NAME, Cluster, Sentinels, answers, using_redis


@pytest.fixture(scope="session")
def rabbit():
    with _or_skip(Rabbit()) as rabbit:
        yield rabbit


@contextmanager
def _or_skip(servers):
    """Start servers; skip the test where they are not installed here."""
    with ExitStack() as stack:
        try:
            started = stack.enter_context(servers)
        except Absent as absent:
            pytest.skip(str(absent))
        yield started


# ---------------------------------------------------------------- topologies


@dataclass(frozen=True)
class Place:
    """Where an application's messages are stored, and its tasks.

    Attributes:
        url: The URL of the buffer's Redis.
        conf: The settings.
        kind: What ``segment check`` calls it; nothing for a single Redis.
        servers: The servers of Redis.
        primary: Finds the one that has a key.
    """

    url: str
    conf: dict[str, Any]
    kind: str
    servers: list[EmbeddedRedis]
    primary: Callable[[str], EmbeddedRedis]

    def empty(self) -> None:
        for server in self.servers:
            answers(server.port, "FLUSHALL")  # which a replica refuses


def _of(server, **conf):
    return Place(server.url, conf, "", [server], lambda _: server)


@contextmanager
def _redis(major):
    with using_redis(major), EmbeddedRedis() as server:
        assert server.version[0] == major
        yield _of(server, broker_url=server.url)


@contextmanager
def _sentinel():
    with Sentinels(count=3) as servers:
        broker = {
            "broker_url": ";".join(f"sentinel://127.0.0.1:{port}/0" for port in servers.ports),
            "broker_transport_options": {"master_name": NAME},
        }
        every = [*servers.servers.values()]
        yield Place(servers.url, broker, " (Sentinel)", every, lambda _: servers.primary)


@contextmanager
def _cluster(broker):
    with Cluster(primaries=3, replicas=1) as servers:
        conf = {"broker_url": broker.url, "segment_redis_url": servers.url}
        yield Place(
            servers.url, conf, " (Cluster)", [*servers.servers.values()], servers.primary_of
        )


@contextmanager
def _rabbitmq(request):
    server = request.getfixturevalue("redis_server")
    url = request.getfixturevalue("rabbit").url
    yield _of(server, broker_url=url, segment_redis_url=server.url)


TOPOLOGIES = {
    "redis6": lambda _: _redis(6),
    "redis7": lambda _: _redis(7),
    "sentinel": lambda _: _sentinel(),
    "cluster": lambda request: _cluster(request.getfixturevalue("redis_server")),
    "rabbitmq": _rabbitmq,
}


@pytest.fixture(scope="module", params=TOPOLOGIES)
def place(request):
    with _or_skip(TOPOLOGIES[request.param](request)) as place:
        yield place


@pytest.fixture
def placed_app(make_app, place, redis_server):
    """Make applications of a topology, whose Redis is empty."""
    place.empty()
    name = f"celery-{uuid4().hex[:8]}"

    def make(**conf):
        common = {
            "imports": ["celery_segment", "callbacktasks"],
            "result_backend": redis_server.url,
            "notes_url": redis_server.url,  # for what the callbacks note
            "segment_signing_key": "k" * 32,
            "task_default_queue": name,
        }
        return make_app(**{**common, **place.conf, **conf})

    return make


@pytest.fixture
def noted(redis):
    return lambda name: [entry.decode() for entry in redis.lrange(name, 0, -1)]


# ---------------------------------------------------------------- RabbitMQ's queues

#: Celery's settings for each kind of queue.
QUEUES = {
    "classic": {},
    # With the type of exchange that Celery's guide asks for: RabbitMQ holds what has a countdown.
    "quorum": {
        "task_default_queue_type": "quorum",
        "task_default_exchange_type": "topic",
        "task_create_missing_queue_type": "quorum",
        "task_create_missing_queue_exchange_type": "topic",
    },
    # Without: a worker holds it.
    "quorum, direct": {
        "task_default_queue_type": "quorum",
        "task_create_missing_queue_type": "quorum",
    },
}


@pytest.fixture(params=QUEUES)
def queue_type(request):
    return request.param


@pytest.fixture
def rabbit_app(make_app, rabbit, redis_server, queue_type):
    """Make applications whose broker is RabbitMQ, with queues of this test's own."""
    name = f"celery-{uuid4().hex[:8]}"

    def make(**conf):
        common = {
            "broker_url": rabbit.url,
            "segment_redis_url": redis_server.url,
            "task_default_queue": name,
            # Redis is not the broker: callbacks are signed.
            "segment_signing_key": "k" * 32,
            "imports": ["celery_segment", "callbacktasks"],
        }
        return make_app(**{**common, **QUEUES[queue_type], **conf})

    yield make
    with Connection(rabbit.url) as connection:
        connection.default_channel.queue_delete(name)
