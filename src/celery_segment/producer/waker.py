"""Wake the workers: publish one ``segment.drain``, quickly or not at all.

The messages are stored already, and a later tick finds them without a wake. So a broker that
is down may cost a worker's event loop, or a flush, next to nothing, where Celery's own
publishing would retry for seconds.
"""

from __future__ import annotations

import logging
import os
import time
import weakref
from typing import Any

from kombu.pools import ProducerPool

from celery_segment.text import one_line

__all__ = ["DELIVER", "DRAIN", "Waker", "impatient_connection"]

logger = logging.getLogger("celery_segment")

#: The names of the workers' two tasks.
DRAIN, DELIVER = "segment.drain", "segment.deliver"

#: Seconds for each of the three waits that a wake may have: a connection that turns
#: out dead, a new one, and the publishing.
CONNECT = 0.33
#: Seconds without a wake after the broker failed.
REST = 5.0
LIMIT = 10
#: One repetition at once: a connection that was idle may have been closed.
_POLICY = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}


def impatient_connection(app: Any) -> Any:
    """Return a connection to the broker that fails soon, where Celery's retries for seconds."""
    options: dict[str, Any] = {"max_retries": 0, "interval_start": 0, "interval_max": 0}
    if app.connection_for_write().transport.driver_type in {"redis", "sentinel"}:
        # kombu's Redis transport ignores connect_timeout.
        options["socket_connect_timeout"] = options["socket_timeout"] = CONNECT
    return app.connection_for_write(connect_timeout=CONNECT, transport_options=options)


class Waker:
    """Wakes the workers of a Celery application, through connections of its own.

    Args:
        app: The application.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._rests_until = 0.0
        self._pid = 0
        self._producers: Any = None

    def wake(self, source: str, queue: str | None) -> None:
        """Publish a drain of a source to a queue (None: as Celery routes it).

        A broker that refuses it costs no message.
        """
        if time.monotonic() < self._rests_until:
            return
        try:
            with self._pool().acquire(block=True) as producer:
                self._app.tasks[DRAIN].apply_async(
                    kwargs={"source": source},
                    kwargsrepr=source,
                    queue=queue,
                    producer=producer,
                    retry=True,
                    retry_policy=_POLICY,
                )
        except Exception as error:  # noqa: BLE001 - the message is safe: nothing may fail the call
            self._rests_until = time.monotonic() + REST
            logger.warning(
                "%s: no worker was woken (%s: %s); the workers' tick will find the messages",
                source,
                type(error).__name__,
                one_line(str(error)),
            )

    def _pool(self) -> Any:
        """Return this process' pool: a child's connections to the broker are its own."""
        if self._pid != os.getpid():
            connections = impatient_connection(self._app).Pool(LIMIT)
            self._producers = ProducerPool(connections, limit=LIMIT)
            self._rests_until, self._pid = 0.0, os.getpid()
            # kombu leaves a pool's sockets to the garbage collector, which complains.
            weakref.finalize(self._app, connections.force_close_all).atexit = False
        return self._producers
