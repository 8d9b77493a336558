"""What the processes of the chaos are configured with, and what they do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from support import DEFAULTS

LEASE, TIMEOUT, INTERVAL = 4.0, 2.0, 0.5
TICK = 0.25
#: A batch that fails for so long, and so often, is given up: longer than any outage.
RETRY_FOR, RETRIES = 45.0, 5
CONF: dict[str, Any] = {
    **DEFAULTS,
    "imports": [*DEFAULTS["imports"], "chaos.application"],
    "segment_lease": LEASE,
    "segment_timeout": TIMEOUT,
    "segment_flush_interval": INTERVAL,
    "segment_redis_timeout": 1,
    "segment_retry_for": RETRY_FOR,
    "segment_max_retries": RETRIES,
}
WORKERS, PROCESSES, PRODUCERS = 2, 2, 2
#: How many of the application's tasks a worker holds at the most: what it fetches ahead for
#: each process by default, and the one that Redis is sending to it.
HELD = 4 * PROCESSES + 1
#: A producer whose reply from the broker was lost publishes again after so many seconds.
PUBLISHING = 2.0
#: Seconds that a warm stop may take: a child of billiard's waits 30 s for its last result to be
#: read, where its worker has closed the pipe before.
WARM = 40.0
#: Seconds from which on a call is slow: a wait for a connection that was forgotten takes 0.25 s.
SLOW = 0.2
#: Seconds within which a process that was started must be ready.
STARTING = 30.0
#: Bytes of the disk, or the bound of the file, to which calls spill while Redis is away.
DISK = 6_000_000

#: What a redeploy may change. The lease and the batches only shrink: what the ledger
#: allows is made from those that ``CONF`` and the load have.
CHANGES: dict[str, tuple[Any, ...]] = {
    "segment_flush_at": (1, 20, 500),
    "segment_flush_interval": (0.25, INTERVAL),
    "segment_gzip": (True, False),
    "segment_lease": (LEASE - 1, LEASE),
    "segment_max_batch_messages": (25, 40),
    "segment_max_inflight": (2, 8, 32),
    "segment_queue": (None, "analytics"),
    "segment_timeout": (TIMEOUT - 0.5, TIMEOUT),
    "segment_worker_share": (0.25, 0.5),
}


@dataclass(frozen=True)
class Load:
    """What the producers do.

    Attributes:
        rate: Messages per second and producer.
        together: How many messages a ``batch()`` has.
        every: A round is a ``batch()`` so often, else one call.
        batch: The greatest number of messages in a request.
        tasks: The application's own tasks per second and producer.
        memory: The ``maxmemory`` of Redis, in MB; 0 for none. Above what idle processes use,
            it has room for the backlog of any volley but one that is to fill it.
    """

    rate: float
    together: int
    every: int
    batch: int
    tasks: float = 5.0
    memory: int = 0


STEADY = Load(rate=250.0, together=10, every=25, batch=40, memory=32)
MANY = Load(rate=6_000.0, together=250, every=1, batch=2_500)
