"""Publish the workers' tasks, quickly or not at all.

The messages are stored already, and a later tick finds what was not published. So a broker that
is down, or that takes no messages at present, may cost a flush or a worker next to nothing, where
Celery's own publishing would retry for seconds, or wait for ever: RabbitMQ, while it lacks memory
or room on its disk, neither reads from a connection that publishes nor answers it.
"""

from __future__ import annotations

import logging
import os
import time
import weakref
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from kombu.exceptions import OperationalError
from kombu.pools import ProducerPool

from celery_segment.text import one_line

__all__ = ["DELIVER", "DRAIN", "Sender", "Waker", "impatient_connection"]

logger = logging.getLogger("celery_segment")

#: The names of the workers' two tasks.
DRAIN, DELIVER = "segment.drain", "segment.deliver"

#: Seconds for each of the waits that publishing may have: a connection that turns out dead, a new
#: one, the publishing itself, and its confirmation.
CONNECT = 0.33
#: Seconds without publishing after the broker failed.
REST = 5.0
#: Connections of a process at most.
LIMIT = 10
#: The name of the transport whose connections may be blocked by RabbitMQ.
AMQP = "py-amqp"
#: One repetition at once: a connection that was idle may have been closed.
_POLICY = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}


def impatient_connection(app: Any) -> Any:
    """Return a connection to the broker that fails soon, where Celery's retries for seconds."""
    options: dict[str, Any] = {"max_retries": 0, "interval_start": 0, "interval_max": 0}
    transport = app.connection_for_write().transport
    if transport.driver_type in {"redis", "sentinel"}:
        # kombu's Redis transport ignores connect_timeout.
        options["socket_connect_timeout"] = options["socket_timeout"] = CONNECT
    elif transport.driver_name == AMQP:
        options.update(_answers_within(CONNECT))
    return app.connection_for_write(connect_timeout=CONNECT, transport_options=options)


def _answers_within(seconds: float) -> dict[str, float]:
    """Return the options of a transport that waits so long for any answer of RabbitMQ.

    Those of a task are not enough: what was declared, or is closed, is answered as well.
    """
    return {"read_timeout": seconds, "write_timeout": seconds}


class _Producers:
    """This process's own connections to the broker, and who publishes through them.

    Args:
        connect: Makes a connection.
        limit: How many there may be.
    """

    def __init__(self, app: Any, connect: Callable[[], Any], limit: int) -> None:
        self._app, self._connect, self._limit = app, connect, limit
        self._pid = 0
        self._pool: Any = None

    def acquire(self) -> Any:
        if self._pid != os.getpid():  # a child's connections to the broker are its own
            connections = self._connect().Pool(self._limit)
            self._pool, self._pid = ProducerPool(connections, limit=self._limit), os.getpid()
            # kombu leaves a pool's sockets to the garbage collector, which complains.
            weakref.finalize(self._app, connections.force_close_all).atexit = False
        return self._pool.acquire(block=True)


class Sender:
    """Publishes what has to travel through the broker, and waits no longer than for a connection.

    Celery's own publishing waits without an end for a RabbitMQ that takes no messages at present.

    Args:
        app: The application.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._is_amqp: bool | None = None
        self._producers = _Producers(app, self._connect, LIMIT)

    @contextmanager
    def options(self, given: Collection[str] = ()) -> Iterator[dict[str, Any]]:
        """Provide options of ``apply_async`` for that.

        Args:
            given: The names of the options that are given already.
        """
        if self._is_amqp is None:
            transport = self._app.connection_for_write().transport
            self._is_amqp = transport.driver_name == AMQP
        seconds = self._app.conf.broker_connection_timeout
        own = {"producer", "connection"} & set(given)
        if own or not self._is_amqp or not seconds or self._app.conf.task_always_eager:
            yield {}
            return
        with self._producers.acquire() as producer:
            yield {"producer": producer, "timeout": seconds, "confirm_timeout": seconds}

    def _connect(self) -> Any:
        options = _answers_within(self._app.conf.broker_connection_timeout)
        return self._app.connection_for_write(transport_options=options)


class Waker:
    """Publishes tasks of a Celery application, through connections of its own.

    Args:
        app: The application.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._rests_until, self._pid = 0.0, 0
        self._producers = _Producers(app, partial(impatient_connection, app), LIMIT)

    def wake(self, source: str, queue: str | None) -> None:
        """Publish a drain of a source to a queue (None: as Celery routes it).

        A broker that refuses it costs no message.
        """
        if self._rests:
            return
        try:
            with self.options() as options:
                self._app.tasks[DRAIN].apply_async(
                    kwargs={"source": source}, kwargsrepr=source, queue=queue, **options
                )
        except Exception as error:  # noqa: BLE001 - the message is safe: nothing may fail the call
            self._rests_until = time.monotonic() + REST
            logger.warning(
                "%s: no worker was woken (%s: %s); the workers' tick will find the messages",
                source,
                type(error).__name__,
                one_line(str(error)),
            )

    @contextmanager
    def options(self) -> Iterator[dict[str, Any]]:
        """Provide the options of ``apply_async`` with which a task is published soon, or fails.

        Raises:
            OperationalError: The broker failed a moment ago, and is not asked; or does so now.
        """
        if self._app.conf.task_always_eager:
            yield {}
            return
        if self._rests:
            raise OperationalError("the broker failed a moment ago, and was not asked")
        how = {"retry": True, "retry_policy": _POLICY}
        try:
            with self._producers.acquire() as producer:
                yield {"producer": producer, "timeout": CONNECT, "confirm_timeout": CONNECT, **how}
        except (OperationalError, OSError):
            self._rests_until = time.monotonic() + REST
            raise

    @property
    def _rests(self) -> bool:
        if self._pid != os.getpid():  # what failed in its parent may be well in a child
            self._rests_until, self._pid = 0.0, os.getpid()
        return time.monotonic() < self._rests_until
