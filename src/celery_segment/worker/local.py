"""Run a task in this worker without a message through the broker."""

from __future__ import annotations

from typing import Any

from celery import uuid
from kombu.message import Message
from kombu.serialization import dumps

__all__ = ["queue_of", "run_here"]


def queue_of(app: Any, task: str, queue: str | None) -> str:
    """Return the name of a task's queue.

    Args:
        app: The Celery application.
        task: The task's name.
        queue: Its queue; None for that to which Celery routes it.
    """
    routed = app.amqp.router.route({"queue": queue} if queue else {}, task).get("queue")
    return str(getattr(routed, "name", routed) or app.conf.task_default_queue)


def run_here(consumer: Any, task: str, queue: str, source: str) -> None:
    """Have a worker's pool run a task on a source, as if its message had just been received.

    It is a task like any other for the pool, events and Flower, the remote control and a
    shutdown. The broker is spared a message, and the worker most of what a message costs.

    Args:
        consumer: The worker's consumer.
        task: The task's name.
        queue: The name of its queue, for a retry.
        source: The source's name: the task's one argument.
    """
    app = consumer.app
    sent = app.amqp.as_task_v2(
        uuid(),
        task,
        kwargs={"source": source},
        kwargsrepr=source,
        origin=consumer.hostname,
        ignore_result=True,
    )
    content_type, content_encoding, body = dumps(sent.body, serializer="json")
    message = Message(
        body=body,
        headers=sent.headers,
        properties=sent.properties,
        content_type=content_type,
        content_encoding=content_encoding,
        delivery_info={"exchange": "", "routing_key": queue},
    )
    consumer.strategies[task](message, None, _nothing, _nothing, consumer.on_task_message)


def _nothing(*_: Any) -> None:
    """Acknowledge a message that the broker does not have."""
