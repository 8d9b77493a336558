"""What RabbitMQ's delayed delivery, which Celery uses for quorum queues, does to a task message.

RabbitMQ holds a message that has a countdown, in place of a worker. It counts in whole seconds,
and Celery cannot publish one that is to be held for less than one. Celery gives the message the
routing key of the queue that it was published to by name, else that of the default queue; and it
arrives under another routing key.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from celery.utils.quorum_queues import detect_quorum_queues
from celery.utils.time import subtract_datetimes
from dateutil.parser import isoparse
from kombu.transport.native_delayed_delivery import MAX_NUMBER_OF_BITS_TO_USE

__all__ = ["holdable", "origin_queue"]

#: Seconds that RabbitMQ holds a message at least.
SHORTEST = 1
#: What precedes a queue's routing key: the seconds in binary digits.
_PREFIX = re.compile(rf"(?:[01]\.){{{MAX_NUMBER_OF_BITS_TO_USE}}}")


def holdable(app: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a task with a wait that its broker can hold, rounded up to a second.

    Args:
        app: The Celery application.
        options: Options of ``apply_async``, of which ``countdown`` and ``eta`` matter.
    """
    seconds = _wait(app, options.get("countdown"), options.get("eta"))
    if not 0 < seconds < SHORTEST:
        return options
    driver = app.connection_for_write().transport.driver_type
    if not detect_quorum_queues(app, driver)[0]:
        return options
    return {**options, "countdown": SHORTEST, "eta": None}


def _wait(app: Any, countdown: float | None, eta: datetime | str | None) -> float:
    if not eta:
        return countdown or 0
    at = isoparse(eta) if isinstance(eta, str) else eta
    return float(subtract_datetimes(at, app.now()).total_seconds())


def origin_queue(task: Any) -> str | None:
    """Return the name of the queue that a running task's message came from, for its retry.

    Celery itself publishes a retry that RabbitMQ holds to the application's default queue.

    Returns:
        None if the message was sent to a queue directly, which Celery does itself, or came through
        an exchange from which the application knows no queue.
    """
    info = task.request.delivery_info or {}
    exchange, key = info.get("exchange"), info.get("routing_key") or ""
    if not (exchange and key):
        return None
    of_queue = _PREFIX.sub("", key, count=1)
    held = of_queue != key
    for queue in task.app.amqp.queues.values():
        if queue.routing_key == of_queue and (held or queue.exchange.name == exchange):
            return str(queue.name)
    return None
