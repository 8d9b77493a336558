"""Servers that not every machine has, with the applications that use them."""

from __future__ import annotations

from uuid import uuid4

import pytest
from kombu import Connection

from rabbit import Rabbit, find_rabbitmq

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


@pytest.fixture(scope="session")
def rabbit():
    if find_rabbitmq() is None:
        pytest.skip("there is no RabbitMQ: apt-get install rabbitmq-server")
    with Rabbit() as rabbit:
        yield rabbit


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
